"""``prefect-mlops up``: the whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prefect_mlops.deployments.local.stack import LocalStack


def up(
    home: Annotated[
        Path | None,
        typer.Option(help="Folder for databases, artifacts and logs. [default: PREFECT_MLOPS_HOME or .prefect-mlops]"),
    ] = None,
    project: Annotated[
        Path, typer.Option(help="Folder with the prefect.yaml to serve; its flows run in it and can import from it.")
    ] = Path(),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses as one JSON object on one line, once all is ready.")
    ] = False,
) -> None:
    """Run a Prefect server, MLflow, a worker and a watcher on this machine, until Ctrl-C.

    Deploys what the prefect.yaml of the project lists, as `prefect-mlops deploy` does, so it can be started and
    scheduled in the Prefect UI, and watches the landing places of its datasets for files. Servers listen on this
    machine only, on ports 4200 and 5000 where those are free; a home keeps its ports, runs and models from one start
    to the next.

    Serve the flows of the current folder:

        prefect-mlops up

    Serve another project, with everything it keeps in a place of its own:

        prefect-mlops up --project ~/churn --home ~/churn/.prefect-mlops

    Use the stack from another shell:

        export PREFECT_API_URL=http://127.0.0.1:4200/api MLFLOW_TRACKING_URI=http://127.0.0.1:5000
    """
    from prefect_mlops.core.settings import Settings
    from prefect_mlops.deployments.local.stack import local_stack
    from prefect_mlops.deployments.project import PROJECT_FILE

    project = project.expanduser().absolute()
    served = (project / PROJECT_FILE).exists()
    try:
        with local_stack(
            home or Settings().home, mlflow=True, worker=served, project=project, progress=_progress
        ) as stack:
            if not served:
                _progress(
                    f"no flow is served: there is no {PROJECT_FILE} in {project}. Run `prefect init` there and list "
                    "your deployments, or name a folder that has one with --project"
                )
            typer.echo(_as_json(stack) if as_json else _as_table(stack))
            _progress("ready; Ctrl-C stops everything")
            stack.wait()
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C and SIGTERM: this is how it is meant to end
        _progress("stopped")


def _progress(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _as_json(stack: LocalStack) -> str:
    return json.dumps(
        {
            "prefect_ui": stack.prefect_ui_url,
            "prefect_api": stack.prefect_api_url,
            "mlflow": stack.mlflow_url,
            "home": str(stack.home),
            "deployments": list(stack.deployments),
            "environment": dict(stack.environment),
        }
    )


def _as_table(stack: LocalStack) -> str:
    rows = {
        "Prefect": stack.prefect_ui_url,
        "Prefect API": stack.prefect_api_url,
        "MLflow": stack.mlflow_url,
        "Home": str(stack.home),
        "Deployments": f"{len(stack.deployments)} served" if stack.deployments else "none served",
    }
    listed = [f"  {name:<12} {value}" for name, value in rows.items()]
    return "\n".join([*listed, *(f"  {'':<12} {name}" for name in stack.deployments)])
