"""Plan what a ``prefect.yaml`` changes on a Prefect server, and apply the plan. Applying is idempotent.

- ``entries``: the deployments of the file, validated, with defaults taken from the flow
- ``inventory``: the deployments, schedules and automations on the server
- ``plan``: three-way comparison of the file, the last deployed file and the server
- ``apply``: build the plan for a project, and carry it out
"""

__all__ = ["apply", "entries", "inventory", "plan"]
