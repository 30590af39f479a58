"""Monitoring runs: each comparison of new data with the training profile, and each scoring, stored with a number.

A test at 5 % every day gives a false alarm every twentieth day. Alpha spending avoids that: the number of a monitoring
run sets the level of its test, so that all runs of one champion together give a false alarm in at most 5 % of cases.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError, field_validator

from prefect_mlops.core.addresses import monitoring_uri
from prefect_mlops.core.drift import thresholds
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lake.commits import append_next, open_or_make, open_table, read_small, retry_commits, storage
from prefect_mlops.core.lake.compaction import compact
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

ALPHA = thresholds.MONITORING_ALPHA
COMPACT_EVERY = 100  # each row is a file of its own; a hundred are read in 30 ms, thousands in seconds
_TOTAL = 2.109742801236892  # of 1 / (n ln² n) over n = 2, 3, 4, ...

_logger = logging.getLogger(__name__)

MonitoringKind = Literal["drift", "performance"]


class MonitoringRun(Value):
    """One monitoring run on new data: what was compared or scored, at which level, and the result.

    Numbers that are not finite are left out of sizes, scores and intervals: nothing was measured there.

    Attributes:
        model: registered model.
        kind: ``drift`` compares rows with the training data, ``performance`` scores the champion on them.
        champion: version that was monitored.
        number: counted from 1 for each model, kind and champion, by `record_monitoring_run`.
        key: for idempotence: a retry, or another run on the same data, gets the number of the first.
        at: when, in UTC.
        subject: what was compared or scored, e.g. the name of a file.
        data: data version.
        rows: rows that were compared or scored.
        passed: nothing was found.
        level: of the test, from `level_of`.
        sizes: drift: largest size of change by column, from 0 to 1.
        drifted: columns that drifted.
        scores: performance: score by metric, the one that decides first; drift: the share ``drifted``.
        intervals: two-sided interval by the name of the score.
        flow_run: id of the Prefect flow run.
    """

    model: str
    kind: MonitoringKind
    champion: int = Field(ge=1)
    number: int = Field(ge=1)
    key: str = Field(min_length=1)
    at: AwareDatetime
    subject: str
    data: int | None = None
    rows: int | None = Field(default=None, ge=0)
    passed: bool
    level: float = Field(gt=0, lt=1)
    sizes: dict[str, float] = Field(default_factory=dict)
    drifted: tuple[str, ...] = ()
    scores: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    flow_run: str = ""

    @field_validator("sizes", "drifted", "scores", "intervals", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("sizes", "scores")
    @classmethod
    def _finite(cls, value: dict[str, float]) -> dict[str, float]:
        return {name: number for name, number in value.items() if math.isfinite(number)}

    @field_validator("intervals")
    @classmethod
    def _bounded(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return {name: ends for name, ends in value.items() if all(map(math.isfinite, ends))}


_AS_JSON = ("sizes", "drifted", "scores", "intervals")


def level_of(number: int, alpha: float = ALPHA) -> float:
    """Return the level of a monitoring run: below it a p-value is an alarm.

    The levels of runs 1, 2, 3, ... sum to `alpha`, however many there will be. So the chance that a champion ever gets
    a false alarm while nothing changes is at most `alpha`, however the runs depend on one another (Bonferroni). Two
    runs at the same moment may get the same level; then it is a little more.

    Args:
        number: of the run, from 1.
        alpha: spent over all runs, between 0 and 1.

    Returns:
        `alpha` / (2.1097 n ln² n) with n = `number` + 1: of 0.05, 0.025 for the first run, 0.0003 for the twelfth,
        2e-6 for the 365th.

    Raises:
        ConfigError: a number below 1, or an alpha out of range.

    Source:
        Alpha spending (Lan and DeMets 1983, Biometrika 70) by Bonferroni's inequality over the runs.
    """
    if number < 1 or not 0 < alpha < 1:
        raise ConfigError(
            f"monitoring runs are numbered from 1 and alpha is between 0 and 1, saw run {number}, alpha {alpha}"
        )
    return alpha / (_TOTAL * (number + 1) * math.log(number + 1) ** 2)


def read_monitoring_runs(
    model: str, *, kind: MonitoringKind | None = None, champion: int | None = None
) -> list[MonitoringRun]:
    """Return the monitoring runs of a model, oldest first; empty where there were none.

    Rows that cannot be read, damaged ones or kinds of a newer version of this library, are left out and logged.

    Args:
        model: registered model.
        kind: only these.
        champion: only runs of this version.

    Raises:
        BackendError: storage failed.
    """
    runs = _readable(_rows(open_table(monitoring_uri(model))))
    return [run for run in runs if kind in (None, run.kind) and champion in (None, run.champion)]


def number_monitoring_run(model_name: str, *, kind: MonitoringKind, champion: int, key: str) -> int:
    """Return the number a monitoring run has or would get; it sets the level of its test, `monitoring.level_of`.

    Args:
        model_name: registered model.
        kind: ``drift`` or ``performance``.
        champion: version that is monitored.
        key: idempotency key, e.g. a digest of the new rows.

    Returns:
        The number, from 1.

    Raises:
        BackendError: storage failed; retried.
    """
    rows = _rows(open_table(monitoring_uri(model_name)))
    known = _find(_readable(rows), kind=kind, champion=champion, key=key)
    return known.number if known else _next_number(rows, kind=kind, champion=champion)


def record_monitoring_run(run: MonitoringRun) -> MonitoringRun:
    """Store a monitoring run, once for each key.

    Args:
        run: with the number from `number_monitoring_run`.

    Returns:
        The stored run: the first one of its key, or this one; with the next number where another run took its number
        meanwhile. The level stays the one it was tested at.

    Raises:
        BackendError: storage failed.
    """
    uri = monitoring_uri(run.model)
    for attempt in retry_commits(uri):
        with attempt:
            table = open_or_make(uri, _schema())
            rows = _rows(table)
            if known := _find(_readable(rows), kind=run.kind, champion=run.champion, key=run.key):
                return known
            number = _next_number(rows, kind=run.kind, champion=run.champion)
            kept = run.model_copy(update={"number": number})
            if append_next(table, _as_table(kept), new_columns=True) % COMPACT_EVERY == 0:
                _compact(uri)
            return kept
    raise AssertionError("retries end with a run or an error")


def _find(runs: Sequence[MonitoringRun], *, kind: str, champion: int, key: str) -> MonitoringRun | None:
    return next((run for run in runs if (run.kind, run.champion, run.key) == (kind, champion, key)), None)


def _next_number(rows: Sequence[dict[str, Any]], *, kind: str, champion: int) -> int:
    """Return the number after the highest one, unreadable rows included, so that no number is given twice."""
    mine = [row["number"] for row in rows if (row.get("kind"), row.get("champion")) == (kind, champion)]
    return max((number for number in mine if isinstance(number, int)), default=0) + 1


def _rows(table: DeltaTable | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    with storage(table.table_uri, "read"):
        rows: list[dict[str, Any]] = read_small(table).to_pylist()
    return rows


def _readable(rows: Sequence[dict[str, Any]]) -> list[MonitoringRun]:
    runs = []
    for row in rows:
        try:
            runs.append(
                MonitoringRun.model_validate(
                    {name: row[name] for name in MonitoringRun.model_fields if row.get(name) is not None}
                )
            )
        except ValidationError as error:
            seen = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:2])
            _logger.warning(
                "monitoring run %s of %s cannot be read and is left out: %s", row.get("number"), row.get("model"), seen
            )
    return sorted(runs, key=lambda run: (run.at, run.number))


def _compact(uri: str) -> None:
    """Merge the many small files; after a failure or a conflict, the next hundred rows try again."""
    with contextlib.suppress(BackendError):
        table = open_table(uri)
        if table is not None:
            compact(table)


def _as_table(run: MonitoringRun) -> pa.Table:
    import pyarrow as pa

    row = run.model_dump()
    return pa.Table.from_pylist([{**row, **{name: json.dumps(row[name]) for name in _AS_JSON}}], schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {
        **dict.fromkeys(("champion", "number", "data", "rows"), pa.int64()),
        "at": pa.timestamp("us", tz="UTC"),
        "passed": pa.bool_(),
        "level": pa.float64(),
    }
    return pa.schema([(name, kinds.get(name, pa.string())) for name in MonitoringRun.model_fields])
