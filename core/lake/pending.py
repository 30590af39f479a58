"""The backlog: what lies in a dataset's landing place and has not been looked into."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from prefect_mlops.core.lake.landing import Landed, list_landing
from prefect_mlops.core.lake.ledger import Ledger, read_ledger
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec


class DatasetBacklog(Value):
    """What waits in a landing place, as it was at one moment; nothing is waited for.

    Attributes:
        dataset: name of the dataset.
        pending: files the ledger has not seen, by name; some may still be being written.
        left: a sentence for each thing that is left alone.
    """

    dataset: str
    pending: tuple[Landed, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def oldest(self) -> datetime | None:
        """When the file that waits longest last changed, in UTC; None where nothing waits."""
        return min((file.modified for file in self.pending), default=None)


def find_backlog(spec: DatasetSpec, ledger: Ledger | None = None) -> DatasetBacklog:
    """Compare a dataset's landing place with its ledger, without reading a file.

    Args:
        spec: whose landing place.
        ledger: the ledger, where it was read already.

    Returns:
        What waits. Where storage tells nothing by which a file is known again, it always does.

    Raises:
        ConfigError: there is no such landing place.
        BackendError: it or the lake cannot be read.
    """
    listing = list_landing(spec)  # before the ledger: a file that is taken in between is in it
    known = read_ledger(spec.name) if ledger is None else ledger
    pending = tuple(file for file in listing.files if known.seen(file.path, file.stamp) is None)
    return DatasetBacklog(dataset=spec.name, pending=pending, left=listing.left)
