"""Looks: each comparison of new data with what the champion learned from, and each scoring of it, kept with a number.

Who tests every day at 5 % cries wolf every twentieth day. Here the number of a look sets the level of its test, so
that all looks at one champion together raise a false alarm at most as often as a single test would.
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
    """One look at new data: what was compared or scored, how strictly, and what was seen.

    Numbers that are not finite are left out of sizes, scores and intervals: nothing was measured there.

    Attributes:
        model: registered model.
        kind: ``drift`` compares rows with the training data, ``performance`` scores the champion on them.
        champion: version looked at.
        number: counted from 1 for each model, kind and champion, by `write_monitoring_run`.
        key: what makes it the same look: a retried run, or the same data looked at again, gets its old number back.
        at: when, in UTC.
        subject: what was looked at, e.g. the name of a file.
        data: data version.
        rows: rows looked at.
        passed: nothing was found.
        level: of the test, from `level_of`.
        sizes: drift: largest size of change by column, from 0 to 1.
        drifted: columns that drifted.
        scores: performance: score by metric, the one that decides first; drift: the share ``drifted``.
        intervals: two-sided interval by the name of the score.
        flow_run: id of the Prefect flow run that looked.
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
    """Return how small the p-value of a look has to be for an alarm.

    The levels of looks 1, 2, 3, ... sum to `alpha`, however many there will be. So the chance that a champion ever gets
    a false alarm while nothing changes is at most `alpha`, however the looks depend on one another: no more is used
    than that chances of errors add up. Two runs that look in the same moment may be judged at one level; then it is a
    little more.

    Args:
        number: of the look, from 1.
        alpha: what is spent over all looks, between 0 and 1.

    Returns:
        `alpha` / (2.1097 n ln² n) with n = `number` + 1: of 0.05, 0.025 for the first look, 0.0003 for the twelfth,
        2e-6 for the 365th.

    Raises:
        ConfigError: a number below 1, or an alpha that is no chance.

    Source:
        Alpha spending (Lan and DeMets 1983, Biometrika 70) by Bonferroni's inequality over the looks.
    """
    if number < 1 or not 0 < alpha < 1:
        raise ConfigError(f"looks are numbered from 1 and alpha is between 0 and 1, saw look {number}, alpha {alpha}")
    return alpha / (_TOTAL * (number + 1) * math.log(number + 1) ** 2)


def read_monitoring_runs(
    model: str, *, kind: MonitoringKind | None = None, champion: int | None = None
) -> list[MonitoringRun]:
    """Return the looks at a model, oldest first; empty where there were none.

    Rows that cannot be read, damaged ones or kinds of a newer version of this library, are left out and logged.

    Args:
        model: registered model.
        kind: only these.
        champion: only looks at this version.

    Raises:
        BackendError: storage failed.
    """
    looks = _looks(_rows(open_table(monitoring_uri(model))))
    return [look for look in looks if kind in (None, look.kind) and champion in (None, look.champion)]


def monitoring_run_number(model: str, *, kind: MonitoringKind, champion: int, key: str) -> int:
    """Return the number a look has, or would get.

    Args:
        model: registered model.
        kind: of look.
        champion: version looked at.
        key: what makes it the same look.

    Raises:
        BackendError: storage failed.
    """
    rows = _rows(open_table(monitoring_uri(model)))
    known = _find(_looks(rows), kind=kind, champion=champion, key=key)
    return known.number if known else _next_number(rows, kind=kind, champion=champion)


def write_monitoring_run(look: MonitoringRun) -> MonitoringRun:
    """Keep a look, once for each key.

    Args:
        look: as it was judged, with the number from `monitoring_run_number`.

    Returns:
        The look as it is kept: the first one of its key; or this one, with the next number when another look took its
        own meanwhile. The level stays what it was judged at.

    Raises:
        BackendError: storage failed.
    """
    uri = monitoring_uri(look.model)
    for lost in retry_commits(uri):
        with lost:
            table = open_or_make(uri, _schema())
            rows = _rows(table)
            if known := _find(_looks(rows), kind=look.kind, champion=look.champion, key=look.key):
                return known
            number = _next_number(rows, kind=look.kind, champion=look.champion)
            kept = look.model_copy(update={"number": number})
            if append_next(table, _as_table(kept), new_columns=True) % COMPACT_EVERY == 0:
                _compact(uri)
            return kept
    raise AssertionError("attempts end with a look or an error")


def _find(looks: Sequence[MonitoringRun], *, kind: str, champion: int, key: str) -> MonitoringRun | None:
    return next((look for look in looks if (look.kind, look.champion, look.key) == (kind, champion, key)), None)


def _next_number(rows: Sequence[dict[str, Any]], *, kind: str, champion: int) -> int:
    """Count on from the highest number, rows included that cannot be read otherwise: no number is given twice."""
    mine = [row["number"] for row in rows if (row.get("kind"), row.get("champion")) == (kind, champion)]
    return max((number for number in mine if isinstance(number, int)), default=0) + 1


def _rows(table: DeltaTable | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    with storage(table.table_uri, "read"):
        rows: list[dict[str, Any]] = read_small(table).to_pylist()
    return rows


def _looks(rows: Sequence[dict[str, Any]]) -> list[MonitoringRun]:
    looks = []
    for row in rows:
        try:
            looks.append(
                MonitoringRun.model_validate(
                    {name: row[name] for name in MonitoringRun.model_fields if row.get(name) is not None}
                )
            )
        except ValidationError as error:
            seen = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:2])
            _logger.warning(
                "look %s at %s cannot be read and is left out: %s", row.get("number"), row.get("model"), seen
            )
    return sorted(looks, key=lambda look: (look.at, look.number))


def _compact(uri: str) -> None:
    """Write the many small files as one; when that fails, or somebody else does it, the next hundred will."""
    with contextlib.suppress(BackendError):
        table = open_table(uri)
        if table is not None:
            compact(table)


def _as_table(look: MonitoringRun) -> pa.Table:
    import pyarrow as pa

    row = look.model_dump()
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
