"""What MLflow keeps of a run about where its model comes from, and the ledger of the rows it was trained on."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.addresses import dataset_of, table_uri
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lake.ingest import version_digest
from prefect_mlops.core.lake.ledger import Arrival, read_ledger
from prefect_mlops.core.lineage.training_data import Lineage
from prefect_mlops.core.reports import Report
from prefect_mlops.core.tables.errors import masked
from prefect_mlops.core.trace.traces import CodeTrace, DataTrace, EnvironmentTrace, FileTrace
from prefect_mlops.tracking.client import backend
from prefect_mlops.tracking.run_tags import RunTags, package_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.values import TableRef

MAX_BYTES = 5_000_000  # of an artifact that is read whole; what we write is far smaller
_TEXTS = (mlflow_tags.LINEAGE_DATA, mlflow_tags.PACKAGES, mlflow_tags.UNCOMMITTED_DIFF)
_REPORT = re.compile(rf"{mlflow_tags.REPORTS_FOLDER}/([a-z][a-z0-9-]*)\.json")


class RunRecord:
    """What MLflow keeps of a run; notes what it could not give."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self.unknown: list[str] = []
        self.data: Any = None
        self.paths: dict[str, int] = {}
        if not run_id:
            return
        try:
            with backend(f"reading run {run_id}"):
                found = client.get_run(run_id)
        except ConfigError:
            self.unknown.append(f"MLflow run {run_id} is gone: rows, code, parameters and scores are unknown")
            return
        if found.info.lifecycle_stage == "deleted":
            self.unknown.append(f"MLflow run {run_id} is deleted; what it said is shown until MLflow removes it")
        self.data = found.data
        self._list()

    def _list(self) -> None:
        try:
            with backend(f"listing the artifacts of run {self.run_id}"):
                top = self.client.list_artifacts(self.run_id)
                below = [self.client.list_artifacts(self.run_id, one.path) for one in top if one.is_dir]
        except (BackendError, ConfigError) as error:
            self.unknown.append(f"its artifacts: {error}")
            return
        self.paths = {one.path: one.file_size or 0 for part in (top, *below) for one in part if not one.is_dir}
        if not self.paths:
            self.unknown.append("its artifacts are gone: reports, packages and uncommitted code are unknown")

    def texts(self, names: tuple[str, ...]) -> dict[str, str]:
        """Read those of some artifacts that are there."""
        found = {}
        for name in names:
            if name not in self.paths:
                continue
            if self.paths[name] > MAX_BYTES:
                self.unknown.append(f"{name}: it has {self.paths[name]:,} bytes, more than are read")
                continue
            try:
                with backend(f"reading {name}"), tempfile.TemporaryDirectory() as folder:
                    path = Path(self.client.download_artifacts(self.run_id, name, folder))
                    found[name] = path.read_text(encoding="utf-8", errors="replace")
            except (BackendError, ConfigError) as error:
                self.unknown.append(f"{name}: {error}")
        return found


def describe_run(run: RunRecord, version_tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a trace that a run tells."""
    if run.data is None:
        digest = RunTags(version_tags).data_digest
        if run.run_id == "" and not run.unknown:
            run.unknown.append("it was registered without a run: rows, code, parameters and scores are unknown")
        return {"run": run.run_id, "data": DataTrace(digest=digest)}
    tags, metrics = RunTags(run.data.tags), dict(run.data.metrics)
    kinds = tuple(path for path in run.paths if _REPORT.fullmatch(path))
    texts = run.texts((*_TEXTS, *kinds))
    rows = metrics.pop(mlflow_tags.EVALUATED_ROWS, None)
    return {
        "run": run.run_id,
        "flow_run_url": tags.flow_run_url,
        "data": _data(run, tags, texts.get(mlflow_tags.LINEAGE_DATA, "")),
        "code": _code(run, tags, texts.get(mlflow_tags.UNCOMMITTED_DIFF, "")),
        "environment": _environment(run, tags, texts.get(mlflow_tags.PACKAGES)),
        "parameters": dict(sorted(run.data.params.items())),
        "seed": _whole(tags.seed),
        "scores": dict(sorted(metrics.items())),
        "evaluated_rows": None if rows is None else int(rows),
        "reports": dict(_reports(run, {kind: texts[kind] for kind in kinds if kind in texts})),
        "evidence": tuple(
            sorted(path for path in run.paths if not path.endswith(".md") or path == mlflow_tags.CARD_MARKDOWN)
        ),
    }


def _data(run: RunRecord, tags: RunTags, kept: str) -> DataTrace:
    """Say what it learned from: by the run's tags, and more where the lineage is still there."""
    source, lineage = tags.source, None
    if source is None:
        run.unknown.append("where its rows were read from: they came from memory, or from a program that did not say")
    try:
        lineage = Lineage.model_validate_json(kept or "null")
    except ValidationError:
        run.unknown.append(f"its columns: {mlflow_tags.LINEAGE_DATA} is not there or cannot be read")
    if tags.data_digest is None:
        run.unknown.append("the digest of its rows: it was not trained by train_model")
    dataset = dataset_of(source.uri) if source and source.version is not None else ""
    lines = _lines(run, dataset, source)
    return DataTrace(
        digest=tags.data_digest,
        rows=_whole(tags.data_rows),
        columns=lineage.columns if lineage else None,
        target=lineage.target if lineage else "",
        until=lineage.until if lineage else None,
        holdout=lineage.holdout if lineage and lineage.until is None else "",
        dataset=dataset,
        uri=source.uri if source else "",
        version=source.version if source else None,
        source_digest=version_digest(lines) if lines else source.digest if source else None,
        source_rows=sum(line.rows for line in lines) if lines else source.rows if source else None,
        files=tuple(map(_file, lines)),
    )


def _lines(run: RunRecord, dataset: str, source: TableRef | None) -> list[Arrival]:
    """Look up in the ledger which files a data version is made of."""
    if not dataset or source is None or source.version is None:
        return []
    try:
        lines = read_ledger(dataset).at_version(source.version)
    except (BackendError, ConfigError) as error:
        run.unknown.append(f"the files of its data version: {error}")
        return []
    ours = masked(table_uri("datasets", dataset))
    if not lines:
        run.unknown.append(f"the files of its data version: the lake here has none, at {ours}")
    elif source.uri.rstrip("/") != ours:
        run.unknown.append(f"whether it had these files: they are those of {ours}, it was trained from another lake")
    return lines


def _file(line: Arrival) -> FileTrace:
    return FileTrace(
        path=line.path,
        digest=line.digest,
        content=line.content,
        rows=line.rows,
        refused=line.refused,
        version=line.version or 0,
        at=line.at,
    )


def _code(run: RunRecord, tags: RunTags, diff: str) -> CodeTrace:
    if tags.commit is None:
        run.unknown.append("its code: it was trained outside of a git repository")
    if tags.dirty and not diff:
        run.unknown.append("what was not committed: the difference is not there")
    return CodeTrace(
        commit=tags.commit,
        dirty=tags.dirty,
        diff=diff,
        spec=tags.spec,
        spec_digest=tags.spec_digest,
    )


def _environment(run: RunRecord, tags: RunTags, packages: str | None) -> EnvironmentTrace:
    if tags.lock is None:
        run.unknown.append("its lock file: there was none where it was trained")
    return EnvironmentTrace(
        lock=tags.lock,
        facts=dict(sorted(tags.environment.items())),
        packages=None if packages is None else package_versions(packages),
    )


def _reports(run: RunRecord, texts: Mapping[str, str]) -> Iterator[tuple[str, Report]]:
    for path, text in sorted(texts.items()):
        kind = path.removeprefix(f"{mlflow_tags.REPORTS_FOLDER}/").removesuffix(".json")
        try:
            yield kind, Report.model_validate_json(text)
        except ValidationError:
            run.unknown.append(f"{path}: it is not a report this version of prefect-mlops can read")


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,18}", text) else None
