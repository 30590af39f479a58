"""How a person runs it: the command ``prefect-mlops``.

- `app`: the frame, its errors, and where commands are registered.
- `commands/`: one file a command.
- `_terminal`: lists and long texts on a terminal.
- `_project`: which project and MLflow a command works on, and running a flow from it.
- `_names`: MODEL, MODEL@alias and MODEL/VERSION, looked up.
- `_promotion`: what the commands share that change who is champion.
- `_data_status`: the status of a dataset.
"""
