"""State of a dataset: pending files, last commit, refused files, quarantined rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from prefect_mlops.cli._terminal import age, counted
from prefect_mlops.core.errors import BackendError, ConfigError, MLOpsError
from prefect_mlops.core.lake.versions import data_versions
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec


class DatasetStatus(Value):
    """State of a dataset at one moment.

    Attributes:
        name: dataset of the lake.
        declared: whether the project declares it; otherwise its landing zone is not known.
        version: newest data version; None while nothing was committed.
        committed: when rows were committed last.
        late: whether that breaks the freshness promise.
        pending: number of files in the landing zone that are not ingested; None where unknown.
        oldest: when the oldest pending file arrived.
        refused: number of files refused as a whole and not committed since.
        quarantined: number of rows in quarantine.
        problem: why the landing zone could not be listed.
    """

    name: str
    declared: bool = False
    version: int | None = None
    committed: datetime | None = None
    late: bool = False
    pending: int | None = None
    oldest: datetime | None = None
    refused: int = 0
    quarantined: int = 0
    problem: str = ""

    @property
    def lines(self) -> list[str]:
        """Facts for a person, one sentence each."""
        return list(self._facts())

    @property
    def todo(self) -> list[str]:
        """What to do, one sentence each."""
        return list(self._advice())

    def _facts(self) -> Iterator[str]:
        if self.version is None or self.committed is None:
            yield f"{self.name}: nothing was committed yet"
        else:
            late = ", later than promised" if self.late else ""
            yield f"{self.name}: version @{self.version}, committed {age(self.committed)} ago{late}"
        if self.pending == 0:
            yield "no file waits"
        elif self.oldest is not None and self.pending:
            yield f"{counted(self.pending, 'file')} waiting, the oldest for {age(self.oldest)}"
        if self.refused or self.quarantined:
            yield f"{counted(self.refused, 'file')} refused, {counted(self.quarantined, 'row')} in quarantine"
        if self.problem:
            yield f"what waits is not known: {self.problem}"

    def _advice(self) -> Iterator[str]:
        if self.pending:
            yield (f"Files wait: if the ingest deployment does not take them in, run prefect-mlops ingest {self.name}.")
        if self.late:
            yield f"Ask those who deliver {self.name}: nothing came for longer than promised."
        if self.refused or self.quarantined:
            yield f"Look at what was refused: prefect-mlops quarantine list {self.name}."


def find_dataset_status(dataset: str) -> DatasetStatus:
    """Find the state of a dataset; a landing zone that cannot be listed is reported in ``problem``.

    Args:
        dataset: dataset of the lake; its spec is looked up among those the project in the current folder declares.

    Raises:
        BackendError: the lake cannot be read.
    """
    from prefect_mlops.core.lake.ledger import read_ledger
    from prefect_mlops.core.lake.quarantine import find_held, find_refused

    ledger, versions = read_ledger(dataset), data_versions(dataset)
    newest = versions[-1] if versions else None
    spec, problem = _spec(dataset)
    found = DatasetStatus(
        name=dataset,
        declared=spec is not None,
        version=newest.version if newest else None,
        committed=newest.at if newest else None,
        late=_late(spec, newest.at if newest else None),
        quarantined=sum(len(held.rows) for held in find_held(dataset, ledger)),
        problem=problem,
    )
    if spec is None:
        return found
    pending, oldest, problem = _waiting(spec)
    refused = len(find_refused(spec, ledger))
    return found.model_copy(update={"pending": pending, "oldest": oldest, "problem": problem, "refused": refused})


def _spec(dataset: str) -> tuple[DatasetSpec | None, str]:
    """Find the spec that says where files arrive."""
    from prefect_mlops.deployments.project import resolve_dataset

    try:
        return resolve_dataset(dataset)[1], ""
    except MLOpsError as error:
        return None, str(error)


def _late(spec: DatasetSpec | None, last: datetime | None) -> bool:
    if spec is None or spec.late_after is None:
        return False
    return last is None or datetime.now(timezone.utc) - last > spec.late_after


def _waiting(spec: DatasetSpec) -> tuple[int | None, datetime | None, str]:
    from prefect_mlops.core.lake.pending import find_backlog

    try:
        backlog = find_backlog(spec)
    except (BackendError, ConfigError) as error:
        return None, None, str(error)
    return len(backlog.pending), backlog.oldest, ""
