"""Quarantine: the rows and files that were refused and have not been committed since.

The dataset shows whether a row was committed: rows carry their file, digest and number. A row is in quarantine while
the ledger lists its file as partly committed, and the dataset does not have the row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, ROW_COLUMN, table_uri
from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.lake.commits import open_table, rows_where
from prefect_mlops.core.lake.landing import Landed, digest_of, local_file, look
from prefect_mlops.core.lake.ledger import Arrival, Ledger, read_ledger
from prefect_mlops.core.lake.rows import quarantine_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

    from prefect_mlops.core.specs.dataset import DatasetSpec

KEY = ("path", "digest", "number")
COLUMNS = ("number", "reasons", "row")


@dataclass(frozen=True)
class Held:
    """A file with rows in quarantine.

    Attributes:
        arrival: the newest line of the ledger about it.
        rows: outstanding rows, by number; columns ``number reasons row``.
    """

    arrival: Arrival
    rows: pa.Table

    @property
    def key(self) -> tuple[str, str]:
        """Path and digest: the content version of the file."""
        return (self.arrival.path, self.arrival.digest)

    @property
    def numbers(self) -> frozenset[int]:
        """The rows' numbers in the file, counted from 1."""
        return frozenset(self.rows["number"].to_pylist())

    @property
    def missing(self) -> int:
        """Number of rows the ledger counts as refused that quarantine does not have, which needs investigation."""
        return max(self.arrival.refused - len(self.rows), 0)

    def counted(self) -> dict[str, int]:
        """Count how many rows each reason holds back, most frequent first."""
        reasons = Counter(reason for reasons in self.rows["reasons"].to_pylist() for reason in reasons.split("; "))
        return dict(reasons.most_common())


def find_held(
    dataset: str, ledger: Ledger | None = None, *, table: DeltaTable | None = None, paths: Iterable[str] | None = None
) -> list[Held]:
    """Find the files that have rows in quarantine.

    Args:
        dataset: dataset of the lake.
        ledger: its ledger, where it was read already.
        table: its rows, where they were opened already, at the version that is asked about.
        paths: these files only; None or empty for all.

    Returns:
        Files with outstanding rows, the last committed ones at the end.

    Raises:
        ConfigError: not a dataset's name.
        BackendError: storage failed.
    """
    table = table or open_table(table_uri("datasets", dataset))
    wanted = set(paths or ())
    current = _committed_last(ledger or read_ledger(dataset))
    partly = [line for line in current if line.state == "partly" and (not wanted or line.path in wanted)]
    if table is None or not partly:
        return []
    rows = _outstanding(dataset, table, {line.digest for line in partly})
    by_file = dict(grouped(rows, "path", "digest"))
    nothing = rows.slice(0, 0)
    files = [Held(line, _once(by_file.get((line.path, line.digest), nothing))) for line in partly]
    return [file for file in files if len(file.rows) or file.missing]


def find_refused(spec: DatasetSpec, ledger: Ledger, *, paths: Iterable[str] | None = None) -> list[Arrival]:
    """Find the files that were refused as a whole and not committed since, by this or another name.

    Args:
        spec: of the dataset.
        ledger: its ledger.
        paths: these files only; None or empty for all without a later committed content of the same name.
    """
    wanted = set(paths or ())
    committed = [line for line in ledger.lines if line.version is not None]
    last_commit = {line.path: line.at for line in committed}
    contents = {(line.path, line.digest) for line in committed}  # a later refusal does not undo a commit

    def is_out(line: Arrival) -> bool:
        if line.state != "refused" or (line.path, line.digest) in contents:
            return False
        if spec.copies == "skip" and ledger.owner(line.digest):
            return False
        return line.path in wanted if wanted else not (line.path in last_commit and last_commit[line.path] > line.at)

    return [line for line in ledger.current if is_out(line)]


def find_again(spec: DatasetSpec, arrival: Arrival) -> Landed:
    """Find a refused file that has not changed since.

    Raises:
        ConfigError: it is gone, or its content has changed.
        BackendError: storage failed.
    """
    there = look(spec, arrival.path)
    with local_file(spec, there) as file:
        same = digest_of(file) == arrival.digest
    if not same:
        raise ConfigError(f"{arrival.path!r} has another content by now: the refused one has to be delivered again")
    return there


def require_arrived(dataset: str, ledger: Ledger, paths: Iterable[str] | None) -> None:
    """Refuse files that are not in the ledger.

    Raises:
        ConfigError: no such file, with the nearest names.
    """
    known = {line.path for line in ledger.lines}
    for path in paths or ():
        if path not in known:
            raise unknown_name(f"file in the ledger of {dataset!r}", path, known)


def values_of(row: str) -> dict[str, Any]:
    """Read a row as quarantine keeps it."""
    values: dict[str, Any] = json.loads(row)
    return values


def _committed_last(ledger: Ledger) -> list[Arrival]:
    """Return the line of each content version's last commit: versions order commits; clocks and refusals do not."""
    committed = [(line.version, line) for line in ledger.lines if line.version is not None]
    ordered = sorted(committed, key=lambda pair: pair[0])
    last = {(line.path, line.digest): (version, line) for version, line in ordered}
    return [line for _, line in sorted(last.values(), key=lambda pair: pair[0])]


def _outstanding(dataset: str, table: DeltaTable, digests: set[str]) -> pa.Table:
    """Return the rows of some contents that are in quarantine, and not in the dataset."""
    kept = open_table(table_uri("quarantine", dataset))
    schema = quarantine_schema()
    if kept is None:
        return schema.empty_table()
    marks = [FILE_COLUMN, DIGEST_COLUMN, ROW_COLUMN]
    rows = rows_where(kept, "digest", digests, schema.names).cast(schema)
    there = rows_where(table, DIGEST_COLUMN, digests, marks).rename_columns(list(KEY))
    there = there.cast(_keys(schema))
    return rows.join(there, keys=list(KEY), join_type="left anti")


def _keys(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in KEY])


def grouped(rows: pa.Table, path: str, digest: str) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    """Group rows by content version of each file: by the columns with path and digest."""
    import pyarrow as pa

    places: dict[tuple[str, str], list[int]] = {}
    keys = zip(rows[path].to_pylist(), rows[digest].to_pylist(), strict=True)
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    for key, found in places.items():
        yield key, rows.take(pa.array(found))


def _once(rows: pa.Table) -> pa.Table:
    """Order a file's rows by number, without repeated ones."""
    import pyarrow as pa

    numbers: dict[int, int] = {number: place for place, number in enumerate(rows["number"].to_pylist())}
    order = [numbers[number] for number in sorted(numbers)]
    return rows.take(pa.array(order, pa.int64())).select(list(COLUMNS))
