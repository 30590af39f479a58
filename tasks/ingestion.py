"""Take one arriving file into the lake, or refuse it visibly."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefect.runtime

from prefect_mlops.core import lake
from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.lake import Arrival
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.reports import Report

MAX_REFUSED_SHARE = 0.1  # more bad rows than this and the file itself is suspect: a shifted column, a wrong unit
MAX_REASON_LENGTH = 500
CHUNK_BYTES = 1 << 20


@step("ingest-{path}", backend=True)
def ingest_file(
    path: str, *, landing: str, dataset: str, suite: Any, max_refused_share: float = MAX_REFUSED_SHARE
) -> Arrival:
    """Check one file and commit its good rows once.

    A file that cannot be read as a table, whose columns are not those the suite knows, or with too many bad rows is
    refused as a whole, recorded, and left where it is. Otherwise bad rows go to quarantine with their reasons and the
    rest into the dataset. The same content under the same path again changes nothing.

    Args:
        path: under ``landing``.
        landing: folder the files arrive in; nothing outside of it is read.
        dataset: dataset of the lake.
        suite: Great Expectations suite for the rows.
        max_refused_share: largest share of bad rows (0 to 1) with which the rest is still taken.

    Returns:
        What became of it.

    Raises:
        ConfigError: no such file under ``landing``, or a path or link that leads elsewhere.
        BackendError: storage failed; retried.
    """
    path, file = _inside(Path(landing), path)
    digest = _digest(file)
    known = lake.find_arrival(dataset, path=path, digest=digest)
    if known is not None:
        return known.model_copy(update={"again": True})
    arrival = Arrival(
        dataset=dataset, path=path, digest=digest, state="refused", flow_run=str(prefect.runtime.flow_run.id or "")
    )
    try:
        return _commit(arrival, file, suite, max_refused_share)
    except DataCheckError as error:
        reason = str(error).removeprefix(f"{file}: ")[:MAX_REASON_LENGTH]
        return lake.commit_arrival(arrival.model_copy(update={"reason": reason}), accepted=None, refused=None)


def _commit(arrival: Arrival, file: Path, suite: Any, max_refused_share: float) -> Arrival:
    from prefect_mlops.data_checks import check_table, split_bad_rows

    rows = _rows(file)
    lake.require_columns(arrival.dataset, map(str, rows.columns))
    report = check_table(rows, suite, subject=arrival.path)
    accepted, refused = (rows, rows.iloc[:0]) if report.passed else split_bad_rows(rows, suite, subject=arrival.path)
    if len(refused) == 0:
        report.raise_for_failure()  # what failed is not about single rows: columns, types or the table as a whole
        done = arrival.model_copy(update={"state": "committed", "rows": len(rows)})
        return lake.commit_arrival(done, accepted=accepted, refused=None)
    share = len(refused) / len(rows)
    why = f"{len(refused):,} of {len(rows):,} rows ({share:.1%}) are bad: {_reasons(report)}"
    if share > max_refused_share:
        raise DataCheckError(f"{why}; more than {max_refused_share:.0%}, so none is taken", report)
    check_table(accepted, suite, subject=arrival.path).raise_for_failure()
    done = arrival.model_copy(
        update={"state": "partly", "rows": len(accepted), "refused": len(refused), "reason": why[:MAX_REASON_LENGTH]}
    )
    return lake.commit_arrival(done, accepted=accepted, refused=refused)


def _reasons(report: Report) -> str:
    return "; ".join(check.sentence for check in report.failures if check.severity == "error")


def _rows(file: Path) -> pd.DataFrame:
    """Read the file; a name that promises no table is refused like content that is none, not as a wrong request."""
    from prefect_mlops.core.tables import read_table

    try:
        return read_table(file)
    except ConfigError as error:
        if error.__cause__ is not None or not file.is_file():  # nothing installed reads it, or it is gone meanwhile
            raise
        raise DataCheckError(str(error)) from error


def _inside(landing: Path, path: str) -> tuple[str, Path]:
    """Return a file's one name under the landing place, and the file, unless name or link leads out of it.

    The ledger knows a file by its name, so ``./a.csv`` and the whole path have to come out as ``a.csv``.
    """
    named, root = Path(path), landing.resolve()
    for folder in (landing.absolute(), root):
        if named.is_relative_to(folder):
            named = named.relative_to(folder)
    file = (root / named).resolve()
    if named.is_absolute() or ".." in named.parts or not file.is_relative_to(root):
        raise ConfigError(f"{path!r} leads out of the landing folder {landing}: not read")
    if not file.is_file():
        raise ConfigError(f"there is no file {path!r} in the landing folder {landing}")
    if not path.isascii() and path.encode(errors="replace").decode() != path:
        raise ConfigError(f"the name {path!r} in the landing folder {landing} is not UTF-8: rename the file")
    return named.as_posix(), file


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()
