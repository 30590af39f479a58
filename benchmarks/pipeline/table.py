"""What was measured, as markdown, and which of the promised bounds it keeps."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]
FIRST_LINE = "event to first line"


def median(rows: Rows, **wanted: str) -> float | None:
    """Return the median seconds of the first row that has these values and was measured without a failure."""
    for row in rows:
        if all(row.get(name) == value for name, value in wanted.items()) and row["seconds"] and not failed(row):
            return statistics.median(row["seconds"])
    return None


def failed(row: dict[str, Any]) -> bool:
    """Tell whether somebody did not do the work; any other note informs."""
    return bool(row["note"].startswith("failed"))


def bounds(rows: Rows) -> list[dict[str, Any]]:
    """Ask of each promise whether it is kept; None where it was not measured."""
    own = _combined(rows, ("e2", "floor2", "e0"), lambda train, floor, empty: train - floor - empty)
    tuned, warm = (median(rows, key=f"f {worker}", name=FIRST_LINE) for worker in ("tuned", "warm"))
    asked = [
        ("our tasks, warm / naive script", _ratio(rows, "e", "a"), 0.2),
        ("our tasks, warm / plain flow on the stock worker", _ratio(rows, "e", "c"), 0.2),
        ("event to first line, warm / tuned stock worker", warm / tuned if warm and tuned else None, 0.5),
        ("our tasks, cold / best script by hand", _ratio(rows, "d", "b"), 1.3),
        ("own overhead of a warm train: s over floor and Prefect's own", own, 1.5),
    ]
    return [
        {"bound": what, "seen": seen, "at_most": limit, "kept": None if seen is None else seen <= limit}
        for what, seen, limit in asked
    ]


def markdown(rows: Rows) -> str:
    """Write everything as tables."""
    parts = [_contestants([row for row in rows if row["key"].split()[0] not in ("f", "g", "h")])]
    parts += [_bounds(bounds(rows)), _steps([row for row in rows if row.get("steps")])]
    parts += [_plain("Events and empty runs", [row for row in rows if row["key"].split()[0] in ("f", "g")])]
    parts += [_sizes([row for row in rows if row["key"] == "h"])]
    return "\n\n".join(filter(None, parts))


def _ratio(rows: Rows, above: str, below: str) -> float | None:
    return _combined(rows, (above, below), lambda one, other: one / other)


def _combined(rows: Rows, keys: Sequence[str], formula: Callable[..., float]) -> float | None:
    seconds = [median(rows, key=key) for key in keys]
    return None if None in seconds else formula(*seconds)


def _lines(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    body = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in body)


def _contestants(rows: Rows) -> str:
    if not rows:
        return ""
    floor = median(rows, key="floor")
    against = {key: median(rows, key=key) for key in ("a", "c")}
    head = [
        "contestant",
        "how",
        "median s",
        "min",
        "max",
        "processor s",
        "of a",
        "of c",
        "over the floor, s",
        "to first line, s",
    ]
    cells = []
    for row in rows:
        label = f"{row['key']}: {row['name']}" + (f" - {row['note']}" if row["note"] else "")
        if failed(row) or not row["seconds"]:
            cells.append([label, row["what"], *["-"] * 12])
            continue
        middle = statistics.median(row["seconds"])
        lines = row.get("first_line") or []
        cells.append(
            [
                *(label, row["what"], f"{middle:.2f}", f"{min(row['seconds']):.2f}", f"{max(row['seconds']):.2f}"),
                f"{statistics.median(row['processor']):.1f}" if row.get("processor") else "-",
                *(f"{middle / one:.2f}" if one else "-" for one in against.values()),
                f"{middle - floor:.2f}" if floor else "-",
                f"{statistics.median(lines):.2f}" if lines else "-",
                ", ".join(f"{megabytes:,.0f}" for megabytes in row.get("peak_mb", [])) or "-",
                f"{row['auc']:.4f}" if row.get("auc") else "-",
                "warm" if row.get("warm") else "cold",
                str(len(row["seconds"])),
            ]
        )
    return "## The pipeline\n\n" + _lines([*head, "peak MB", "AUC", "state", "runs"], cells)


def _bounds(found: Rows) -> str:
    words = {True: "yes", False: "no", None: "not measured"}
    cells = [
        [one["bound"], "-" if one["seen"] is None else f"{one['seen']:.2f}", f"{one['at_most']:g}", words[one["kept"]]]
        for one in found
    ]
    return "## Bounds\n\n" + _lines(["bound", "seen", "at most", "kept"], cells)


def _steps(rows: Rows) -> str:
    if not rows:
        return ""
    parts = ["## Where the time goes, seconds of the last run; a task that another one calls counts in both"]
    for row in rows:
        steps = sorted(row["steps"].items(), key=lambda step: -step[1])
        parts.append(f"{row['key']}, {row['name']}: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps))
    return "\n\n".join(parts)


def _plain(title: str, rows: Rows) -> str:
    if not rows:
        return ""
    cells = [
        [
            row["name"],
            row["what"],
            *(f"{how(row['seconds']):.3f}" if row["seconds"] else "-" for how in (statistics.median, min, max)),
            str(len(row["seconds"])),
            row["note"],
        ]
        for row in rows
    ]
    return f"## {title}\n\n" + _lines(["from, to", "how", "median s", "min", "max", "runs", "note"], cells)


def _sizes(rows: Rows) -> str:
    if not rows:
        return ""
    sizes = sorted({row["millions"] for row in rows})
    by_way: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        by_way.setdefault((row["name"], row["what"]), {})[row["millions"]] = statistics.median(row["seconds"])
    cells = [[step, way, *(f"{seen[size]:.3f}" for size in sizes)] for (step, way), seen in by_way.items()]
    return "## By rows\n\n" + _lines(["step", "way", *(f"{size:g} M rows, s" for size in sizes)], cells)
