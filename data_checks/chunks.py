"""Check a table in chunks: outcomes are merged over chunks where possible; other expectations get whole columns."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.tables.chunks import read_chunks
from prefect_mlops.data_checks.engine import Outcome, columns_of, missing_column, needs_all_columns, outcomes
from prefect_mlops.data_checks.figures import Figure, figure_of
from prefect_mlops.data_checks.scopes import Scope, scope_of

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.values import TableRef

SHOWN_VALUES = 20  # as many as Great Expectations returns for a whole table

Item = tuple[int, Any]  # place in the suite, configuration


@dataclass
class Found:
    """The outcomes of a table's expectations.

    Attributes:
        outcomes: by place in the suite.
        rows: of the table.
        whole: columns that were held in memory as a whole, one set after the other.
    """

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    rows: int = 0
    whole: list[tuple[str, ...]] = field(default_factory=list)


def outcomes_in_chunks(table: TableRef, configurations: Sequence[Any], *, head: pd.DataFrame, rows: int) -> Found:
    """Evaluate expectations on a table without holding it in memory.

    Rows are checked in one pass, and aggregates such as a mean merged in the same pass. Expectations that need
    whole columns are evaluated afterwards, with only the columns they name in memory.

    Args:
        table: where it is.
        configurations: from `engine.configurations_of`.
        head: its first rows, with all columns.
        rows: of a chunk.

    Returns:
        One outcome for each configuration, as from `engine.outcomes` on the whole table. Means, sums and standard
        deviations of fractions can differ in their last digits.

    Source: `great_expectations`, through `data_checks.engine`.
    """
    found = Found()
    items: dict[Scope, list[Item]] = defaultdict(list)
    dtypes = dict(head.dtypes.items())
    for place, configuration in enumerate(configurations):
        if missing := missing_column(head.columns, configuration):
            found.outcomes[place] = Outcome(configuration, success=False, problem=missing)
        else:
            items[scope_of(configuration, dtypes)].append((place, configuration))
    _evaluate(found, head.iloc[:1], items["columns"])
    _one_pass(found, table, items, list(head.columns), rows)
    _whole_columns(found, table, items["whole"], list(head.columns), rows)
    return found


def _evaluate(found: Found, frame: pd.DataFrame, items: Sequence[Item]) -> None:
    if items:
        results = outcomes(frame, [configuration for _, configuration in items])
        found.outcomes |= {place: result for (place, _), result in zip(items, results, strict=True)}


def _one_pass(found: Found, table: TableRef, items: dict[Scope, list[Item]], columns: list[str], rows: int) -> None:
    """Read the table once, for all expectations that chunks suffice for."""
    import pandas as pd

    by_row, asked = items["rows"], [*items["rows"], *items["figure"]]
    figures: list[tuple[Item, Figure]] = [(item, figure_of(item[1])) for item in items["figure"]]
    for chunk in read_chunks(table, columns=_needed(asked, columns) or columns[:1], rows=rows):
        found.rows += len(chunk)
        if by_row:
            results = outcomes(chunk, [configuration for _, configuration in by_row])
            for (place, _), result in zip(by_row, results, strict=True):
                found.outcomes[place] = _merged(found.outcomes.get(place), result)
            gc.collect(1)  # Great Expectations holds the chunk in reference cycles; young generations are cheap
        for (_, configuration), figure in figures:
            figure.add(chunk[configuration.kwargs["column"]])
    for item, figure in figures:
        _evaluate(found, figure.stand_in().to_frame(item[1].kwargs["column"]), [item])
    _evaluate(found, pd.DataFrame(index=pd.RangeIndex(found.rows)), items["count"])


def _whole_columns(found: Found, table: TableRef, items: Sequence[Item], columns: list[str], rows: int) -> None:
    """Evaluate expectations about whole columns, with one set of columns in memory at a time."""
    import pandas as pd

    sets: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in items:
        sets[tuple(_needed([item], columns))].append(item)
    for names, group in sets.items():
        frame = pd.concat(read_chunks(table, columns=list(names) or columns[:1], rows=rows))
        _evaluate(found, frame, group)
    found.whole = list(sets)


def _needed(items: Sequence[Item], columns: list[str]) -> list[str]:
    """Return the columns that expectations need, in the table's order."""
    everything = any(needs_all_columns(configuration) for _, configuration in items)
    named = {column for _, configuration in items for column in columns_of(configuration)}
    return [column for column in columns if everything or column in named]


def _merged(before: Outcome | None, now: Outcome) -> Outcome:
    """Merge the outcomes of an expectation on some rows and on the next ones."""
    if before is None or before.problem:
        return before or now
    if now.problem:
        return now
    if "element_count" not in now.result:  # the type of a column, the same in all chunks
        return now if before.success else before
    counts = {
        name: int(before.result.get(name) or 0) + int(now.result.get(name) or 0)
        for name in ("element_count", "missing_count", "unexpected_count")
    }
    present = counts["element_count"] - counts["missing_count"]
    mostly = now.configuration.kwargs.get("mostly")
    share = (present - counts["unexpected_count"]) / present if present else 1.0
    values = [value for one in (before, now) for value in one.result.get("partial_unexpected_list") or ()]
    return replace(
        now,
        success=share >= (1 if mostly is None else mostly),
        result={**counts, "partial_unexpected_list": values[:SHOWN_VALUES]},
        extent=_joined_extent(before.extent, now.extent),
    )


def _joined_extent(one: tuple[Any, Any] | None, other: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])
