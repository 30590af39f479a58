"""`DatasetSpec`: a dataset of the lake: its landing zone, completeness of files, suite and limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.specs.loading import load_object

Copies = Literal["skip", "take"]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A dataset, declared once, by the person who understands its data.

    A wrong spec is refused when it is built, with the field named.

    Attributes:
        name: dataset of the lake; lower case letters, digits, ``_ -``.
        suite: Great Expectations suite each arriving file has to meet.
        landing: folder or fsspec URI the files arrive in; nothing outside of it is read. A relative folder is under
            the one the flow runs in; empty means ``landing/<name>`` in the home.
        max_refused_share: largest share of bad rows (0 to 1) with which the rest of a file is still taken. With more,
            the file itself is suspect: a shifted column, a wrong unit.
        new_columns: take a file with columns the dataset did not have so far; older rows have no value there.
            Otherwise such a file is refused.
        copies: what to do with content that was committed under another name before: ``skip`` records the file as a
            duplicate, ``take`` commits its rows again.
        settle_seconds: a file is read once neither size nor time have changed for so long; 0 for sources that put
            whole files in place, by a rename or an upload to a bucket.
        marker: where the source says when a file is complete: ``{name}.done`` for a file beside each, ``_SUCCESS``
            for one in each folder. Empty where it does not.
        manifest: name of the file in each folder that lists the complete ones, in the format of ``sha256sum``; a file
            whose content is not the listed one is still being written. Empty where there is none.
        late_after: the freshness promise: an event is raised when nothing was committed for so long.
    """

    name: str
    suite: Any
    landing: str = ""
    max_refused_share: float = 0.1
    new_columns: bool = False
    copies: Copies = "skip"
    settle_seconds: float = 2.0
    marker: str = ""
    manifest: str = ""
    late_after: timedelta | None = None

    def __post_init__(self) -> None:
        if problem := _wrong_kind(self) or _wrong_value(self):
            raise ConfigError(f"DatasetSpec {self.name!r}: {problem}")

    @property
    def landing_place(self) -> str:
        """The landing zone as an absolute path or URI."""
        if "://" in self.landing:
            return self.landing.rstrip("/")
        landing = Path(self.landing).expanduser() if self.landing else Settings().home / "landing" / self.name
        return str(landing.absolute())


def load_dataset(name: str) -> DatasetSpec:
    """Import a dataset's spec by its dotted name.

    Args:
        name: e.g. ``"flights.flights"``: the object ``flights`` of the module ``flights``.

    Raises:
        ConfigError: no such module or object, with the nearest names; or the object is no `DatasetSpec`.
    """
    return load_object(name, DatasetSpec, word="dataset")


def _wrong_kind(spec: DatasetSpec) -> str:
    expected: dict[str, tuple[str, Any]] = {
        **dict.fromkeys(("name", "landing", "marker", "manifest"), ("text", str)),
        **dict.fromkeys(("max_refused_share", "settle_seconds"), ("a number", (int, float))),
        "new_columns": ("True or False", bool),
        "late_after": ("a timedelta or None", (timedelta, type(None))),
    }
    for name, (words, kinds) in expected.items():
        value = getattr(spec, name)
        if not isinstance(value, kinds) or isinstance(value, bool) != (kinds is bool):  # True is an int to Python
            return f"{name}: expected {words}, got {value!r:.80}"
    return ""


def _wrong_value(spec: DatasetSpec) -> str:
    try:
        table_uri("datasets", spec.name)
    except ConfigError as error:
        return f"name: {error}"
    wrong = {
        "suite: expected a Great Expectations suite with at least one expectation": not getattr(
            spec.suite, "expectations", None
        ),
        f"max_refused_share: {spec.max_refused_share} is not from 0 to 1": not 0 <= spec.max_refused_share <= 1,
        f"settle_seconds: {spec.settle_seconds} is below 0": spec.settle_seconds < 0,
        f"copies: expected skip or take, got {spec.copies!r:.80}": spec.copies not in get_args(Copies),
        "late_after: expected a positive time": spec.late_after is not None and spec.late_after <= timedelta(0),
        "marker: a file name without folders": {"/", "\\"} & {*spec.marker},
        "manifest: a file name without folders": {"/", "\\"} & {*spec.manifest},
        "marker: a source has a marker or a manifest, not both": spec.marker and spec.manifest,
    }
    return next((problem for problem, holds in wrong.items() if holds), "")
