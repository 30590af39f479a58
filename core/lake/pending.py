"""Pending files: those in a dataset's landing zone that have not been ingested."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from prefect_mlops.core.lake.landing import Landed, list_landing
from prefect_mlops.core.lake.ledger import Ledger, read_ledger
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec


class DatasetBacklog(Value):
    """The pending files of a landing zone at one moment, without waiting for any.

    Attributes:
        dataset: name of the dataset.
        pending: files that are not in the ledger, by name; some may still be being written.
        left: a sentence for each skipped entry.
    """

    dataset: str
    pending: tuple[Landed, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def oldest(self) -> datetime | None:
        """When the oldest pending file last changed, in UTC; None without pending files."""
        return min((file.modified for file in self.pending), default=None)


def find_backlog(spec: DatasetSpec, ledger: Ledger | None = None) -> DatasetBacklog:
    """Compare a dataset's landing zone with its ledger, without reading a file.

    Args:
        spec: whose landing zone.
        ledger: the ledger, where it was read already.

    Returns:
        The pending files. Where storage reports no stamp, every file counts as pending.

    Raises:
        ConfigError: there is no such landing zone.
        BackendError: it or the lake cannot be read.
    """
    listing = list_landing(spec)  # before the ledger: a file ingested in between is in it
    known = read_ledger(spec.name) if ledger is None else ledger
    pending = tuple(file for file in listing.files if known.seen(file.path, file.stamp) is None)
    return DatasetBacklog(dataset=spec.name, pending=pending, left=listing.left)
