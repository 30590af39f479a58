"""Bring refused rows and files in, after the suite was mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import prefect.runtime

from prefect_mlops.core.addresses import ROW_COLUMN
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.lake import quarantine
from prefect_mlops.core.lake.landing import Landed
from prefect_mlops.core.lake.ledger import read_ledger
from prefect_mlops.core.lake.replay import JudgedRows, Replay, replay_rows
from prefect_mlops.core.lake.rows import without_marks
from prefect_mlops.core.values import Value
from prefect_mlops.tasks._step import run_logger, step

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from prefect_mlops.core.specs.dataset import DatasetSpec

MAX_REASONS = 3  # of those that hold rows back; the rows themselves have all of theirs


class Refused(Value):
    """Files that were refused as a whole.

    Attributes:
        files: those that lie in the landing place as they were.
        left: a sentence for each that does not, and for each that cannot be read now.
    """

    files: tuple[Landed, ...] = ()
    left: tuple[str, ...] = ()


class ReplayedRows(Value):
    """What became of the rows in quarantine.

    Attributes:
        files: each file that has rows in quarantine.
    """

    files: tuple[Replay, ...] = ()


def _replay_name(parameters: dict[str, Any]) -> str:
    return f"replay-quarantine-{parameters['dataset'].name}"


def _refused_name(parameters: dict[str, Any]) -> str:
    return f"find-refused-{parameters['dataset'].name}"


@step(_replay_name, backend=True)
def replay_quarantine(
    dataset: DatasetSpec, paths: Sequence[str] | None = None, *, dry_run: bool = False
) -> ReplayedRows:
    """Check the rows in quarantine with today's suite and bring in those that pass, each once, in one commit.

    Rows are checked together with what the dataset has of the same file: expectations about the whole table are
    about both. Rows that fail stay, with the reasons they were refused for.

    Args:
        dataset: whose quarantine.
        paths: files under the landing place; None or empty for all.
        dry_run: check, and write nothing.

    Returns:
        What became of each file that has rows in quarantine.

    Raises:
        ConfigError: the ledger knows no such file.
        BackendError: storage failed; tried again.
    """
    quarantine.require_arrived(dataset.name, read_ledger(dataset.name), paths)

    def judge(path: str, accepted: pa.Table, candidates: pa.Table) -> JudgedRows:
        run_logger().info("%r: checking %d of its rows again", path, len(candidates))
        return _judged(dataset.suite, path, accepted, candidates)

    flow_run = str(prefect.runtime.flow_run.id or "")
    done = replay_rows(dataset.name, judge, paths=paths, dry_run=dry_run, flow_run=flow_run)
    return ReplayedRows(files=tuple(done))


@step(_refused_name, backend=True)
def find_refused(dataset: DatasetSpec, paths: Sequence[str] | None = None) -> Refused:
    """Find the files that were refused as a whole, to be ingested again.

    Args:
        dataset: whose landing place.
        paths: files under it; None or empty for all of which no later content was taken.

    Returns:
        Those whose refused content is still there.

    Raises:
        ConfigError: the ledger knows no such file.
        BackendError: the lake cannot be read; tried again.
    """
    ledger = read_ledger(dataset.name)
    quarantine.require_arrived(dataset.name, ledger, paths)
    files, left = {}, []
    for arrival in quarantine.find_refused(dataset, ledger, paths=paths):
        try:
            there = quarantine.find_again(dataset, arrival)
        except (ConfigError, BackendError, OSError) as error:
            left.append(f"{arrival.path}: refused as a whole, and cannot be checked again: {error}")
        else:
            files[there.path] = there
    # Of several contents of one name, refused one after the other, only one can be there.
    return Refused(files=tuple(files.values()), left=tuple(left))


def _judged(suite: Any, path: str, accepted: pa.Table, candidates: pa.Table) -> JudgedRows:
    try:
        passing, reasons = _passing(suite, path, accepted, candidates)
    except DataCheckError as error:
        return JudgedRows(frozenset(), str(error))
    return JudgedRows(passing, _counted(reasons))


def _passing(suite: Any, path: str, accepted: pa.Table, candidates: pa.Table) -> tuple[frozenset[int], list[str]]:
    """Find the rows that keep the suite, and the reasons of the others.

    Rows are judged beside those they will stand beside, as some expectations compare rows with one another. Without
    those that fail another may fail, so it is asked until none does.

    Raises:
        DataCheckError: the table as a whole fails with them, or an expectation cannot be computed.
    """
    from prefect_mlops.data_checks import split_bad_rows

    passing = frozenset(candidates[ROW_COLUMN].to_pylist())
    reasons: list[str] = []
    while passing:
        frame = _together(accepted, candidates, passing)
        refused = split_bad_rows(frame, suite, subject=path).refused
        failing = refused.loc[refused.index.isin(passing), "_reasons"]
        if not len(failing):
            _require_whole(frame, suite, path)
            break
        passing -= set(failing.index.tolist())
        reasons += failing.tolist()
    return passing, reasons


def _together(accepted: pa.Table, candidates: pa.Table, numbers: Iterable[int]) -> pd.DataFrame:
    """Return the rows of a file as it would be in the dataset, in its order, by their number."""
    import pandas as pd
    import pyarrow as pa

    rows = pa.concat_tables([accepted, candidates]).sort_by(ROW_COLUMN).to_pandas()
    wanted = {*accepted[ROW_COLUMN].to_pylist(), *numbers}
    rows = rows[rows[ROW_COLUMN].isin(list(wanted))]
    return without_marks(rows.set_index(pd.Index(rows[ROW_COLUMN], name=None)))


def _require_whole(frame: pd.DataFrame, suite: Any, path: str) -> None:
    """Refuse a table that fails an expectation about the whole of it.

    What the suite says of single rows is left out: rows that are in the dataset were accepted by the suite of their
    day, and are no reason to keep others out.
    """
    from great_expectations.expectations import expectation as gx

    from prefect_mlops.data_checks import check_table

    about_rows = (gx.ColumnMapExpectation, gx.ColumnPairMapExpectation, gx.MulticolumnMapExpectation)
    whole = [not isinstance(one, about_rows) for one in getattr(suite, "expectations", suite)]
    if not any(whole):
        return
    report = check_table(frame, suite, subject=path)
    checks = [check for check, counts in zip(report.checks, whole, strict=True) if counts]
    report.model_copy(update={"checks": tuple(checks)}).raise_for_failure()


def _counted(reasons: Sequence[str]) -> str:
    """Say how many rows each reason holds back."""
    counts = Counter(reason for row in reasons for reason in row.split("; "))
    words = [f"{reason} ({count:,})" for reason, count in counts.most_common(MAX_REASONS)]
    more = len(counts) - MAX_REASONS
    return "; ".join(words) + (f"; and {more} more" if more > 0 else "")
