"""The command line ``prefect-mlops``.

- ``app``: the application, its exit codes, and the list of commands
- ``commands``: one file for each command
- ``_data_status``: state of a dataset: pending files, last commit, refused files, quarantined rows
- ``_names``: MODEL, MODEL@alias and MODEL/VERSION, resolved to a history or a trace
- ``_project``: the project folder, the configured MLflow, and a flow run in this process
- ``_promotion``: arguments and answers of the commands that change the champion
- ``_terminal``: text for a terminal: escaped, aligned, wrapped, cut
"""

__all__ = ["app", "commands"]
