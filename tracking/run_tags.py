"""What the tags of a run say about where its model comes from, as values; the names are in `core.tags`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from prefect_mlops.core import tags as names
from prefect_mlops.core.values import TableRef


@dataclass(frozen=True)
class RunTags:
    """The tags of a candidate's run, read back; what a tag does not say is None or empty, never guessed.

    Attributes:
        texts: every tag of the run, by name.
    """

    texts: Mapping[str, str]

    @property
    def data_digest(self) -> str | None:
        """Digest of the training rows."""
        return self.texts.get(names.DATA)

    @property
    def data_rows(self) -> str | None:
        """Number of training rows, as text."""
        return self.texts.get(names.DATA_ROWS)

    @property
    def source(self) -> TableRef | None:
        """Where the rows were read from."""
        try:
            return TableRef.model_validate_json(self.texts.get(names.DATA_SOURCE, ""))
        except ValidationError:
            return None

    @property
    def seed(self) -> str | None:
        """Seed of split and training, as text."""
        return self.texts.get(names.SEED)

    @property
    def commit(self) -> str | None:
        """Full hash of the git commit."""
        return self.texts.get(names.GIT_COMMIT)

    @property
    def dirty(self) -> bool | None:
        """Whether tracked files differed from the commit."""
        return {"true": True, "false": False}.get(self.texts.get(names.GIT_DIRTY, ""))

    @property
    def spec(self) -> str:
        """Dotted name of the spec."""
        return self.texts.get(names.SPEC, "")

    @property
    def spec_digest(self) -> str:
        """Digest of the spec's training part."""
        return self.texts.get(names.SPEC_DIGEST, "")

    @property
    def own_flow(self) -> str:
        """Name of the flow that trained it, where that is none of this library's."""
        return self.texts.get(names.OWN_FLOW, "")

    @property
    def tuned(self) -> str | None:
        """Parameters that a search found, as JSON."""
        return self.texts.get(names.TUNED)

    @property
    def lock(self) -> str | None:
        """Digest of the lock file."""
        return self.texts.get(names.LOCK)

    @property
    def environment(self) -> dict[str, str]:
        """Python, platform, processor and threads, by the names of `core.lineage.environment.environment`."""
        return names.environment_facts(self.texts)

    @property
    def flow_run_url(self) -> str:
        """Page of the Prefect run."""
        return self.texts.get(names.FLOW_RUN_URL, "")


def package_versions(text: str) -> dict[str, str]:
    """Read the ``name==version`` lines of the artifact `core.tags.PACKAGES`; other lines do not count."""
    pairs = (line.partition("==") for line in text.splitlines() if "==" in line)
    return {name.strip(): version.strip() for name, _, version in pairs}
