"""Traces: the rows, code, environment, parameters, checks, scores and decisions behind a model version."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from prefect_mlops.core.promotion.decisions import Approval
from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.promotion.periods import ChampionPeriod
from prefect_mlops.core.reports import Report
from prefect_mlops.core.values import Value


class FileTrace(Value):
    """A file of which rows are in the data version.

    Attributes:
        path: under the landing zone.
        digest: of its bytes.
        content: digest over every cell of the accepted rows.
        rows: how many were accepted.
        refused: how many are in quarantine.
        version: data version it came with.
        at: when that was.
    """

    path: str
    digest: str
    content: str = ""
    rows: int
    refused: int = 0
    version: int
    at: AwareDatetime


class DataTrace(Value):
    """The rows a model was trained on.

    Attributes:
        digest: over every cell of features and target, in order (`core.tables.digests`).
        rows: how many.
        columns: kind of each feature by name; None where that was not kept.
        target: what was learned.
        until: last value of the column the split was ordered by.
        holdout: which rows it has not learned from, in words; empty for splits by time, and where that was not kept.
        dataset: dataset of the lake; empty where the rows came from an address or from memory.
        uri: where the rows were read from; empty for memory.
        version: data version, where the table has versions.
        source_digest: over every cell of the whole table, before the split.
        source_rows: rows of the whole table.
        files: what the data version is made of, oldest first.
    """

    digest: str | None = None
    rows: int | None = None
    columns: dict[str, str] | None = None
    target: str = ""
    until: str | int | float | None = None
    holdout: str = ""
    dataset: str = ""
    uri: str = ""
    version: int | None = None
    source_digest: str | None = None
    source_rows: int | None = None
    files: tuple[FileTrace, ...] = ()


class CodeTrace(Value):
    """The code a model was trained with.

    Attributes:
        commit: of the checkout.
        dirty: tracked files differed from it; None where that is unknown.
        diff: what differed.
        spec: dotted name of the spec.
        spec_digest: of the spec.
    """

    commit: str | None = None
    dirty: bool | None = None
    diff: str = ""
    spec: str = ""
    spec_digest: str = ""


class EnvironmentTrace(Value):
    """The environment a model was trained in.

    Attributes:
        lock: digest of the lock file.
        facts: Python, platform, processor and threads, by the names of `core.lineage.environment.environment`.
        packages: version by distribution; None where that was not kept.
    """

    lock: str | None = None
    facts: dict[str, str] = Field(default_factory=dict)
    packages: dict[str, str] | None = None


class Trace(Value):
    """A model version and everything known about its origin.

    Attributes:
        model: registered model.
        version: which version.
        aliases: that point at it.
        registered: when it came into the registry.
        run: MLflow run that made it; empty where there is none.
        flow_run_url: page of the Prefect run.
        url: page of the version; None where MLflow has no server.
        data: the rows.
        code: the commit.
        environment: packages and machine.
        parameters: of the estimator, as text by name.
        seed: what every unset ``random_state`` was set to.
        scores: by metric.
        evaluated_rows: rows the scores are of.
        reports: stored with it, by kind: ``data`` for the checks, ``gate`` for the gates.
        evidence: artifacts stored with the run, such as the model card.
        decisions: entries of the history about this version, oldest first.
        decision: the last of them that decided; None where nothing was decided.
        approval: a person's answer, where approval was required.
        replaced: champion it took the place of.
        champion: it is champion by the history.
        reigns: its champion periods.
        unknown: what could not be read, a sentence each.
    """

    model: str
    version: int
    aliases: tuple[str, ...] = ()
    registered: AwareDatetime | None = None
    run: str = ""
    flow_run_url: str = ""
    url: str | None = None
    data: DataTrace = DataTrace()
    code: CodeTrace = CodeTrace()
    environment: EnvironmentTrace = EnvironmentTrace()
    parameters: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    evaluated_rows: int | None = None
    reports: dict[str, Report] = Field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    decisions: tuple[Entry, ...] = ()
    decision: Entry | None = None
    approval: Approval | None = None
    replaced: int | None = None
    champion: bool = False
    reigns: tuple[ChampionPeriod, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Model and version, as messages name them."""
        return f"{self.model} v{self.version}"
