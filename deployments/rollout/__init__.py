"""Make a Prefect server what ``prefect.yaml`` says, and change no more than that.

- `entries`: the entries of the file, filled in and checked.
- `inventory`: what the server has.
- `plan`: what deploying would change.
- `apply`: change it.
"""
