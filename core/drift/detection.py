"""Drift detection: both sides profiled, compared, judged; and the page of the verdict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from prefect_mlops.core.drift import table_drift
from prefect_mlops.core.drift.domain_classifier import MAX_CELLS, DomainClassifier, classify_domains
from prefect_mlops.core.drift.table_profile import TableProfile, profile_chunks
from prefect_mlops.core.drift.training_profile import PREDICTION, TrainingProfile, with_predictions
from prefect_mlops.core.drift.verdict import Judge
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.reports import Report
from prefect_mlops.core.specs.policies import Drift
from prefect_mlops.core.tables.chunks import CHUNK_ROWS, read_chunks
from prefect_mlops.core.tables.read import table_name
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import LoadedModel

if TYPE_CHECKING:
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import Table

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a verdict rests on, and what its page is drawn from; stays inside the process.

    Attributes:
        current: profile of the new rows.
        reference: what they were compared with.
        found: every test and finding.
    """

    current: TableProfile
    reference: TrainingProfile
    found: table_drift.TableDrift


class DriftReport(Report):
    """A ``drift`` report that knows what it rests on, for as long as it stays in the process that made it.

    The comparison is in no JSON: a report that was stored reads back as a plain `Report`.
    """

    _comparison: Comparison | None = PrivateAttr(default=None)

    @property
    def comparison(self) -> Comparison:
        """What it rests on.

        Raises:
            ConfigError: the report was read from JSON, which does not hold it.
        """
        if self._comparison is None:
            raise ConfigError(f"drift of {self.subject}: a stored report has no rows to draw: give detect_drift's own")
        return self._comparison


def detect_drift(
    *,
    current: Table | TableProfile,
    reference: Table | TableProfile | TrainingProfile,
    spec: ModelSpec | None = None,
    estimator: Any = None,
    columns: Sequence[str] | None = None,
    drift: Drift | None = None,
    level: float = table_drift.ALPHA,
    subject: str | None = None,
) -> DriftReport:
    """Judge whether new data still looks like the data it is compared with.

    A column drifted when its distribution, or the share of its missing, unseen or out-of-range values, moved by more
    than a trifle and chance does not explain it, corrected for all tests of the report: of independent rows that did
    not move, at most one report in a hundred names a column. A single drifted column warns. The report fails when

    - more than `max_drifted_share` of the columns drifted: of their weight, where the reference knows what each is
      worth to the model, so that a column it does not use informs and does not alarm;
    - as large a share of the rows lies outside what the model has seen of a column it uses, or went missing in it;
    - what the model says, or its target, drifted;
    - the schema broke: a column missing, of another type, or without any value.

    Rows are taken as independent; a `TrainingProfile` knows how much neighbouring rows differ by themselves, and a
    change has to be larger than that. With too few rows nothing is claimed: the check that decides is a failed warning
    then, not a pass. Timestamps are compared by hour and weekday: that time goes on is no drift.

    Args:
        current: the new rows, where they are, or their profile. Tables are read in chunks, so memory does not grow.
        reference: likewise the rows to compare with, usually those the model was trained on; best the
            `TrainingProfile` that was kept with it.
        spec: gives features, target and thresholds; tables are taken as prepared.
        estimator: fitted estimator or `LoadedModel`, to compare what it says of both sides. Without a
            `TrainingProfile` give reference rows it was not trained on: of those it was, it is surer.
        columns: names to compare; by default the features and target of reference or spec, else all columns.
        drift: thresholds; None takes those of the spec, else the defaults of `core.specs.policies.Drift`.
        level: of the corrected p-values; `core.drift.monitoring.level_of` makes it smaller with each monitoring run.
        subject: what is judged, in the report's title; the names of the tables where left out.

    Returns:
        The verdict; ``require`` it to stop a flow, give it to `draw_drift_page` for Evidently's page.

    Raises:
        ConfigError: `columns` names one that is in neither table, or a threshold is out of range.
        BackendError: a table could not be reached.

    Source: `scipy.stats` through `core.drift.statistical_tests`.
    """
    policy = _policy(spec, drift)
    sides = _Sides.of(current, reference, estimator, _known_columns(spec, columns))
    found = table_drift.compare_profiles(
        current=sides.current,
        reference=sides.reference.profile,
        columns=columns or sides.columns(),
        alpha=level,
        min_change=policy.min_change,
        usual=sides.reference.usual.of(sides.current.rows),
    )
    judge = Judge(
        max_drifted_share=policy.max_drifted_share,
        min_change=policy.min_change,
        weights=sides.reference.weights,
        target=sides.reference.target or (spec.target if spec else ""),
        unpredictable=sides.unpredictable,
        separation=_separation(sides, found, policy.multivariate),
        usual_auc=sides.reference.usual.auc,
    )
    judged = judge.report(found, subject or subject_of(current, reference))
    report = DriftReport(**dict(judged))
    report._comparison = Comparison(sides.current, sides.reference, found)  # noqa: SLF001 - made here only
    return report


def subject_of(current: Any, reference: Any) -> str:
    """Name what is compared, for a title."""
    return f"{table_name(current)} against {table_name(reference)}"


def write_drift_page(report: DriftReport, path: Path) -> tuple[list[str], bool]:
    """Draw the page of a verdict and write it; whatever the drawing trips over, the verdict stands.

    Args:
        report: from `detect_drift`.
        path: file to write.

    Returns:
        Sentences for the report: what the page shows, or why there is none; and whether it was written.

    Raises:
        ConfigError: the report was read from JSON.

    Source: Evidently draws; `core.drift.evidently`.
    """
    from prefect_mlops.core.drift.evidently.page import write_page
    from prefect_mlops.core.drift.evidently.table import NothingToDrawError

    shown = report.comparison
    try:
        notes = write_page(
            path,
            current=shown.current,
            reference=shown.reference.profile,
            comparison=shown.found,
            report=report,
            known=shown.reference,
        )
    except NothingToDrawError as error:
        return [f"There is no page: {error}."], False
    except Exception as error:
        _logger.warning("the page of %s could not be made", report.subject, exc_info=True)
        reason = one_line(f"{type(error).__name__}: {error}")
        return [f"The page could not be made; the verdict stands without it. {reason}"], False
    return notes, True


def _policy(spec: ModelSpec | None, drift: Drift | None) -> Drift:
    """Take what was asked for, else what the spec says, else the defaults."""
    policy = drift or (spec.drift if spec else Drift())
    if policy.problem:
        raise ConfigError(f"drift: {policy.problem}")
    return policy


def _known_columns(spec: ModelSpec | None, columns: Sequence[str] | None) -> list[str] | None:
    """Return the columns to read; None where that is unknown before reading."""
    if columns is not None and not isinstance(columns, str):
        return list(columns)
    return [*spec.features, spec.target] if spec and spec.features else None


@dataclass(frozen=True)
class _Sides:
    """Both tables, summarised, and what the model says of them."""

    current: TableProfile
    reference: TrainingProfile
    unpredictable: str = ""

    @classmethod
    def of(cls, current: Any, reference: Any, estimator: Any, columns: list[str] | None) -> _Sides:
        known = reference if isinstance(reference, TrainingProfile) else None
        if known is not None and columns is None:
            columns = [*known.features, known.target] if known.features else None
        now = _profile(current, columns)
        base = known or TrainingProfile(_profile(reference, columns), ())
        sides = cls(now, base)
        if estimator is None:
            return sides
        return sides.asked(estimator.estimator if isinstance(estimator, LoadedModel) else estimator)

    def asked(self, estimator: Any) -> _Sides:
        """Let the model say something about both sides."""
        names = list(self.reference.features) or [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        names = names or list(self.reference.profile.sample.columns)
        if not self.current.rows:
            return self
        try:
            now, _ = with_predictions(self.current, estimator, self.current.sample[names])
            base = self.reference.profile
            if PREDICTION not in base.columns:
                base, _ = with_predictions(base, estimator, base.sample[names])
        except Exception as error:  # noqa: BLE001 - whatever a model raises on rows it cannot take, it does not predict
            reason = one_line(f"{type(error).__name__}: {error}")
            return replace(self, unpredictable=reason)
        return replace(self, current=now, reference=replace(self.reference, profile=base))

    def columns(self) -> list[str] | None:
        """Return which columns to compare: features, and what is on both sides of target and predictions."""
        if not self.reference.features:
            return None
        both = self.current.columns.keys() & self.reference.profile.columns.keys()
        outcomes = [name for name in (self.reference.target, PREDICTION) if name in both]
        return [*self.reference.features, *(name for name in outcomes if self._has_values(name))]

    def _has_values(self, name: str) -> bool:
        """Tell whether labels have come; without any there is nothing to say about the target yet."""
        return bool(self.current.columns[name].values)


def _profile(table: Any, columns: list[str] | None) -> TableProfile:
    import pandas as pd

    if isinstance(table, TableProfile):
        return table
    if isinstance(table, pd.DataFrame):  # whatever is wrong with it is a finding, not an error of reading
        return profile_chunks(
            (table.iloc[at : at + CHUNK_ROWS] for at in range(0, max(len(table), 1), CHUNK_ROWS)), columns
        )
    return profile_chunks(read_chunks(table, columns=columns, absent_ok=True), columns)


def _separation(sides: _Sides, found: table_drift.TableDrift, wanted: bool | None) -> DomainClassifier | None:
    """Ask a classifier, where it was asked for or costs little."""
    samples = (sides.current.sample, sides.reference.profile.sample)
    kinds = {name: kind for name, kind in found.kinds.items() if name not in (PREDICTION, sides.reference.target)}
    cells = sum(map(len, samples)) * len(kinds)
    if wanted is False or (wanted is None and cells > MAX_CELLS):
        return None
    return classify_domains(current=samples[0], reference=samples[1], kinds=kinds)
