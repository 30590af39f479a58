"""``prefect-mlops lake``: look after the lake's tables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefect_mlops.cli._terminal import escaped
from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import BackendError, ConfigError, MLOpsError
from prefect_mlops.core.lake.compaction import Compacted, Need
from prefect_mlops.core.text import listed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEEP_DAYS = 7
MAX_KEPT = 6  # versions named in a line of the table; all of them are in --json
KILO = 1000
PAGE = 1000  # of MLflow's answers

lake = typer.Typer(name="lake", help="Look after the lake's tables.", no_args_is_help=True, rich_markup_mode=None)


@lake.callback()
def _frame() -> None:
    """Keep `optimize` a command of its own: Typer makes the only command of an application its whole."""


@lake.command()
def optimize(
    datasets: Annotated[
        list[str] | None, typer.Argument(metavar="[DATASET]...", help="Names. [default: every table of the lake]")
    ] = None,
    keep_days: Annotated[
        float, typer.Option(min=0, help="Keep every version that was the newest within so many days.")
    ] = KEEP_DAYS,
    project: Annotated[
        Path, typer.Option(help="Folder of the project; a relative home is under it, and with it the lake.")
    ] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")] = False,
) -> None:
    """Make few files of many small ones, and free what is not needed any more.

    Each arriving file leaves a few small files in the lake, and tables of many small files are slow to read. Rows and
    their order stay as they are, and files can arrive meanwhile. Replaced files are deleted after --keep-days, but
    never one that is part of a data version that a registered model or any run in MLflow was trained on. If MLflow
    cannot be asked, or plainly is not the one that belongs to this lake, nothing is deleted.

    See what would be done:

        prefect-mlops lake optimize --dry-run

    Once a week, from a timer:

        prefect-mlops lake optimize --project ~/churn --json
    """
    from prefect_mlops.core.lake.compaction import compact_table, find_tables, give_back

    folder = project.expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: name the project's with --project")
    os.chdir(folder)
    done = [compact_table(table, dry_run=dry_run) for table in find_tables(datasets or ())]
    problem = ""
    try:  # asked last: what was trained on while files were compacted counts too
        needs = needed_versions() if done else []
    except MLOpsError as error:
        problem = str(error)
    else:
        done = [give_back(one, needs, keep_for=timedelta(days=keep_days), dry_run=dry_run) for one in done]
    _show(done, problem=problem, dry_run=dry_run, as_json=as_json)
    if problem:
        raise BackendError(f"no file was deleted, as it is unknown which versions models were trained on: {problem}")


def needed_versions() -> list[Need]:
    """Ask MLflow which versions of which tables models were trained on.

    Runs and experiments in MLflow's trash count: they can be restored until `mlflow gc` ends that.

    Raises:
        BackendError: it cannot be asked.
        ConfigError: it plainly knows nothing of this lake, or not enough of a registered model.
    """
    _require_store()
    from prefect_mlops.tracking.client import backend, mlflow_client

    client = mlflow_client()
    with backend("looking up what models were trained on"):
        _require_models(client)
        runs = {str(run.info.run_id): run for run in _runs(client)}
        named = _registered(client, runs)
    return [
        Need(uri=source["uri"], version=source["version"], who=", ".join(named.get(run_id) or [f"run {run_id[:8]}"]))
        for run_id, run in runs.items()
        if (source := json.loads(run.data.tags[mlflow_tags.DATA_SOURCE])).get("version") is not None
    ]


def _require_store() -> None:
    """Refuse a store that MLflow would make empty, and so without a model to keep anything for."""
    from prefect_mlops.core.settings import Settings

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        database = Settings().home.absolute() / "mlflow.db"
        if not database.exists():
            raise ConfigError(f"MLFLOW_TRACKING_URI is not set, and there is no {database}")
        uri = os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    scheme, found, path = uri.partition("://")
    local = path.removeprefix("/") if scheme == "sqlite" else path if scheme == "file" else "" if found else uri
    if local and uri != "databricks" and not Path(local.partition("?")[0]).exists():
        raise ConfigError(f"MLFLOW_TRACKING_URI names {local}, which is not there")


def _require_models(client: MlflowClient) -> None:
    from prefect_mlops.core.lake.compaction import models_with_history

    here = models_with_history()
    if here and here.isdisjoint(model.name for model in _pages(client.search_registered_models)):
        shown = ", ".join(sorted(here)[:3])
        raise ConfigError(f"it knows none of the models with a history in this lake ({shown}): is it the right one?")


def _runs(client: MlflowClient) -> list[Run]:
    from mlflow.entities import ViewType

    found: list[Run] = []
    experiments = [str(one.experiment_id) for one in _pages(client.search_experiments, view_type=ViewType.ALL)]
    for experiment in experiments:
        found += _pages(
            client.search_runs,
            experiment_ids=[experiment],
            filter_string=f"tags.`{mlflow_tags.DATA_SOURCE}` LIKE '%'",
            run_view_type=ViewType.ALL,
        )
    return found


def _registered(client: MlflowClient, runs: dict[str, Run]) -> dict[str, list[str]]:
    """Name the model versions made of each run.

    Raises:
        ConfigError: the run of one is gone, and with it what it was trained on.
    """
    from mlflow.exceptions import MlflowException

    named: dict[str, list[str]] = {}
    for version in _pages(client.search_model_versions):
        name, run_id = f"{version.name} v{version.version}", str(version.run_id or "")
        if run_id in runs:
            named.setdefault(run_id, []).append(name)
        elif mlflow_tags.DATA in (version.tags or {}):
            try:
                client.get_run(run_id)  # made of rows that were in no lake
            except MlflowException as error:
                raise ConfigError(
                    f"{name} was made by run {run_id or '(unknown)'}, which is gone from MLflow, and with it what it "
                    "was trained on: delete that model version if it need not be rebuilt"
                ) from error
    return named


def _pages(search: Callable[..., Any], **options: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **options)
        found += page
        token = page.token
        if not token:
            return found


def _show(done: list[Compacted], *, problem: str, dry_run: bool, as_json: bool) -> None:
    if as_json:
        tables = [one.model_dump(mode="json") for one in done]
        typer.echo(json.dumps({"dry_run": dry_run, "cleaned": not problem, "problem": problem, "tables": tables}))
        return
    if not done:
        typer.echo("The lake has no tables yet.")
        return
    width = max(len(one.table) for one in done)
    typer.echo(f"{'table':<{width}}  {'files':>13}  {'given back':>22}  kept for models")
    for one in done:
        files = f"{one.files_before:,} to {one.files_after:,}"
        back = f"{one.files_deleted:,} files, {_size(one.bytes_deleted)}"
        typer.echo(f"{escaped(one.table):<{width}}  {files:>13}  {back:>22}  {escaped(_kept(one))}")
        if one.problem:
            typer.echo(f"  {escaped(one.problem)}")
    typer.echo("Nothing was changed: this was a dry run." if dry_run else "Done.")


def _kept(one: Compacted) -> str:
    parts = [f"@{version} ({', '.join(who)})" for version, who in one.kept.items()]
    return listed(parts, MAX_KEPT) or "-"


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < KILO:
            break
        size, unit = size / KILO, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
