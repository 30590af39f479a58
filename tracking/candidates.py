"""A candidate in MLflow: model, scores, parameters, reports, lineage of data and code."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.imports import uncollected
from prefect_mlops.core.lineage.environment import (
    CodeState,
    environment,
    installed_packages,
    lock_digest,
    pinned_requirements,
)
from prefect_mlops.core.lineage.training_data import Lineage, estimator_name, lineage_of
from prefect_mlops.core.model_files import smoke_test
from prefect_mlops.core.model_files.loading import untrusted_types
from prefect_mlops.core.model_files.trusted_types import trusted_types
from prefect_mlops.core.reports import save_reports
from prefect_mlops.core.tables.digests import column_kinds
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Evaluation, LoggedRun
from prefect_mlops.tracking import runs
from prefect_mlops.tracking.client import backend, mlflow_client, page

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from prefect_mlops.core.reports import Report
    from prefect_mlops.tracking.runs import Caller

MAX_PARAM_LENGTH = 500  # parameters are for comparing runs; a longer one is a nested object
EXAMPLE_ROWS = 5  # what MLflow shows and serves as an example
DATASET_DIGEST_LENGTH = 36  # MLflow's limit for a dataset's digest; the whole one is in the tag

_logger = logging.getLogger(__name__)


def log_candidate(  # noqa: PLR0913 - the arguments of `tasks.log_run`, and who calls from which code
    estimator: Any,
    evaluation: Evaluation,
    *,
    experiment: str,
    caller: Caller,
    code: CodeState,
    example: pd.DataFrame | None = None,
    smoke_test_rows: pd.DataFrame | None = None,
    reports: Sequence[Report] = (),
    params: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    warn: Callable[[str], object] = _logger.warning,
) -> LoggedRun:
    """Write one candidate to MLflow and end its run.

    The candidate's run is a child of one parent for the whole flow run. A retry finds both again by their tags, from
    threads, processes or other machines; the ambient active run and ``MLFLOW_RUN_ID`` are never used.

    Args:
        estimator: fitted scikit-learn compatible estimator; its lineage is written where it carries one.
        evaluation: its scores.
        experiment: MLflow experiment; made when it is new.
        caller: the Prefect run that logs.
        code: state of the code that made the estimator.
        example: a few rows of features; gives the model its signature. Without it no signature is kept.
        smoke_test_rows: rows of features for the smoke test, kept with what the estimator predicts for them; None keeps
            those of ``example``.
        reports: verdicts to keep with the run, as JSON and markdown.
        params: more parameters than the estimator's own.
        tags: more tags.
        warn: called with a sentence where no rows could be kept for the smoke test.

    Returns:
        Where it was written, with the address of exactly this model.

    Raises:
        ConfigError: the estimator holds types that are not trusted, or cannot be stored in the skops format.
        BackendError: MLflow failed.

    Source: MLflow tracking and logged models; `skops.io` for the model file.
    """
    client, lineage = mlflow_client(), lineage_of(estimator)
    facts = _facts(lineage, code) | (tags or {})
    with backend(f"logging to experiment {experiment!r}"), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _save_model(estimator, example, folder / "model")
        _save_evidence(reports, lineage, code, folder / "evidence")
        rows = example if smoke_test_rows is None else smoke_test_rows
        if refused := _save_smoke_test_rows(estimator, rows, folder / "evidence"):
            warn(refused)
        where = runs.experiment_id(client, experiment)
        parent = runs.open_parent(client, where, caller)
        key = runs.candidate_key(caller, estimator, lineage.digest if lineage else None)
        run = runs.open_child(client, where, caller, key=key, parent=parent, name=estimator_name(estimator))
        run_id = str(run.info.run_id)
        try:
            model_id = _log_model(client, where, run_id, estimator, folder / "model")
            _log_facts(client, run_id, model_id, evaluation, _plain_params(estimator, params or {}), facts)
            if lineage:
                client.log_inputs(run_id, [_dataset(lineage)])
            client.log_artifacts(run_id, str(folder / "evidence"))
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
        parent = runs.adopt(client, where, caller, run_id, str(run.data.tags.get(mlflow_tags.PARENT, "")))
    return LoggedRun(
        run_id=run_id,
        parent_run_id=parent,
        experiment=experiment,
        model_uri=f"models:/{model_id}",
        data_digest=lineage.digest if lineage else None,
        url=page(f"experiments/{where}/runs/{run_id}"),
    )


def _save_model(estimator: Any, example: pd.DataFrame | None, folder: Path) -> None:
    with uncollected():
        import mlflow.sklearn
        import skops.io  # noqa: F401 - MLflow would import it next
    from mlflow.exceptions import MlflowException

    rows = None if example is None else example.head(EXAMPLE_ROWS)
    try:
        mlflow.sklearn.save_model(
            estimator,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=sorted(trusted_types()),
            signature=None if rows is None else _signature(estimator, rows),
            pip_requirements=_requirements(estimator),
        )
    except MlflowException as error:
        raise _unstorable(estimator, error) from error


def _unstorable(estimator: Any, error: Exception) -> ConfigError:
    """Say which part of an estimator keeps it from being stored safely."""
    import skops.io

    name = type(estimator).__name__
    try:
        untrusted = sorted(set(skops.io.get_untrusted_types(data=skops.io.dumps(estimator))) - trusted_types())
    except Exception as reason:  # noqa: BLE001 - skops raises many kinds for what it cannot write
        return _not_importable(name, str(reason))
    homeless = [part for part in untrusted if "<" in part]
    if homeless:
        return _not_importable(name, ", ".join(homeless))
    if untrusted:
        return untrusted_types(name, untrusted)
    return ConfigError(f"{name} cannot be stored: {one_line(error)}")


def _not_importable(name: str, seen: str) -> ConfigError:
    return ConfigError(
        f"{name} cannot be stored in the skops format ({one_line(seen)}): functions and classes have to be importable "
        "from a module, not a lambda or defined in a notebook or inside a function"
    )


def _signature(estimator: Any, example: pd.DataFrame) -> Any:
    """Describe input columns by their kind; MLflow's own inference gives up on nullable types with a gap."""
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

    learned = lineage_of(estimator)
    gaps = {*(learned.gaps if learned else ()), *(str(name) for name in example.columns[example.isna().any()])}
    kinds = column_kinds(example)
    inputs: list[Any] = [ColSpec(_mlflow_type(kind, gaps=name in gaps), name) for name, kind in kinds.items()]
    outputs = infer_signature(model_output=estimator.predict(example)).outputs
    return ModelSignature(inputs=Schema(inputs), outputs=outputs)


def _mlflow_type(kind: str, *, gaps: bool) -> str:
    if kind == "integer":
        return "double" if gaps else "long"  # an integer that can be missing arrives from JSON as a float
    return {"boolean": "boolean", "float": "double", "decimal": "double", "datetime": "datetime"}.get(kind, "string")


def _requirements(estimator: Any) -> list[str]:
    """Pin what the model needs to run, without importing everything again in a subprocess to find out."""
    import mlflow

    parts = [estimator, *(estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ())]
    modules = {type(part).__module__.partition(".")[0] for part in parts} - {"builtins", "__main__", "prefect_mlops"}
    pinned = pinned_requirements(modules | {"sklearn", "skops", "numpy", "pandas", "scipy"})
    return [f"mlflow=={mlflow.__version__}", *pinned]


def _save_evidence(reports: Sequence[Report], lineage: Lineage | None, code: CodeState, folder: Path) -> None:
    """Write what proves the run: reports, training data's lineage, uncommitted code; uploaded in one go."""
    save_reports(reports, folder / mlflow_tags.REPORTS_FOLDER)
    (folder / mlflow_tags.LINEAGE_FOLDER).mkdir()
    if lineage:
        (folder / mlflow_tags.LINEAGE_DATA).write_text(lineage.model_dump_json(indent=2), encoding="utf-8")
    (folder / mlflow_tags.PACKAGES).write_text("\n".join(installed_packages()) + "\n", encoding="utf-8")
    if code.dirty:
        (folder / mlflow_tags.UNCOMMITTED_DIFF).write_text(code.diff, encoding="utf-8")


def _save_smoke_test_rows(estimator: Any, rows: pd.DataFrame | None, folder: Path) -> str:
    """Keep rows for the smoke test; return why there are none, or an empty text."""
    refused = (
        "no example was given"
        if rows is None
        else smoke_test.keep_rows(estimator, rows, folder / mlflow_tags.SMOKE_TEST_FOLDER)
    )
    if not refused:
        return ""
    name = estimator_name(estimator)
    return f"No rows were kept to rehearse {name} on, so it cannot be rehearsed before promotion: {refused}"


def _log_model(client: MlflowClient, experiment: str, run_id: str, estimator: Any, folder: Path) -> str:
    from mlflow.entities import LoggedModelOutput

    made = client.create_logged_model(
        experiment, name=estimator_name(estimator), source_run_id=run_id, model_type="sklearn"
    )
    _stamp(folder / "MLmodel", model_id=made.model_id, run_id=run_id, location=made.artifact_location)
    client.log_model_artifacts(made.model_id, str(folder))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    return str(made.model_id)


def _stamp(path: Path, *, model_id: str, run_id: str, location: str) -> None:
    """Write into the model's own description where it belongs, as MLflow's fluent call would."""
    from mlflow.models import Model

    description = Model.load(path)
    description.model_id = model_id
    description.model_uuid = model_id
    description.run_id = run_id
    description.artifact_path = location
    description.save(path)


def _log_facts(
    client: MlflowClient,
    run_id: str,
    model_id: str,
    evaluation: Evaluation,
    params: dict[str, str],
    tags: dict[str, str],
) -> None:
    """Write scores, parameters and tags in one call."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    scores = {**evaluation.metrics, mlflow_tags.EVALUATED_ROWS: float(evaluation.rows)}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0, model_id=model_id) for name, value in scores.items()],
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )


def _plain_params(estimator: Any, extra: dict[str, Any]) -> dict[str, str]:
    own = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    plain = {name: value for name, value in own.items() if isinstance(value, (str, int, float, bool, type(None)))}
    return {name: str(value)[:MAX_PARAM_LENGTH] for name, value in {**plain, **extra}.items()}


def _facts(lineage: Lineage | None, code: CodeState) -> dict[str, str]:
    """Tag the run with what its result depends on."""
    tags = {mlflow_tags.environment_tag(name): value for name, value in environment().items()}
    if code.commit:
        tags[mlflow_tags.GIT_COMMIT] = code.commit
        tags[mlflow_tags.GIT_DIRTY] = str(code.dirty).lower()
    if digest := lock_digest():
        tags[mlflow_tags.LOCK] = digest
    if lineage:
        tags[mlflow_tags.DATA] = lineage.digest
        tags[mlflow_tags.DATA_ROWS] = str(lineage.rows)
        tags[mlflow_tags.SEED] = str(lineage.seed)
        if lineage.source:
            tags[mlflow_tags.DATA_SOURCE] = lineage.source.model_dump_json(exclude={"columns"})
    return tags


def _dataset(lineage: Lineage) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = lineage.source.uri if lineage.source else "in memory"
    described = Dataset(
        name=source.rstrip("/").rpartition("/")[2] or "table",
        digest=lineage.digest.removeprefix("sha256:")[:DATASET_DIGEST_LENGTH],
        source_type="prefect-mlops",
        source=json.dumps({"uri": source, "version": lineage.source.version if lineage.source else None}),
        profile=json.dumps({"num_rows": lineage.rows, "num_elements": lineage.rows * (len(lineage.columns) + 1)}),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", "training")])
