"""Has the data moved away from what the model was trained on?"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.drift import table_drift
from prefect_mlops.core.drift.domain_classifier import MAX_CELLS, DomainClassifier, classify_domains
from prefect_mlops.core.drift.table_profile import TableProfile, profile_chunks
from prefect_mlops.core.drift.training_profile import PREDICTION, TrainingProfile, with_predictions
from prefect_mlops.core.drift.verdict import Judge
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.specs.policies import Drift
from prefect_mlops.core.tables.chunks import CHUNK_ROWS, read_chunks
from prefect_mlops.core.tables.read import table_name
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import LoadedModel
from prefect_mlops.tasks._step import step
from prefect_mlops.tracking.client import backend, mlflow_client, page

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import LoggedRun, Table

PAGE_NAME = "drift.html"

_logger = logging.getLogger(__name__)


def _run_name(parameters: dict[str, Any]) -> str:
    return f"drift-{_subject(parameters)}"


@step(_run_name, backend=True)
def detect_drift(  # noqa: PLR0913 - two tables, what decides, and where the page goes
    *,
    current: Table | TableProfile,
    reference: Table | TableProfile | TrainingProfile,
    spec: ModelSpec | None = None,
    model: Any = None,
    columns: Sequence[str] | None = None,
    min_change: float | None = None,
    max_drifted_share: float | None = None,
    level: float = table_drift.ALPHA,
    multivariate: bool | None = None,
    html: str | os.PathLike[str] | None = None,
    run: LoggedRun | None = None,
    subject: str | None = None,
) -> Report:
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
    then, not a
    pass. Timestamps are compared by hour and weekday: that time goes on is no drift.

    Args:
        current: the new rows, where they are, or their profile. Tables are read in chunks, so memory does not grow.
        reference: likewise the rows to compare with, usually those the model was trained on; best the
            `TrainingProfile` that was kept with
            it.
        spec: gives features, target and limits; tables are taken as prepared.
        model: fitted estimator or `LoadedModel`, to compare what it says of both sides. Without a `TrainingProfile`
            give reference rows it was not trained on: of those it was, it is
            surer.
        columns: names to compare; by default the features and target of reference or spec, else all columns.
        min_change: smallest distance of two distributions that matters, from 0 to 1; 0.1, a tenth of the rows
            elsewhere, where neither this nor a spec says it. Half of it for shares of missing, unseen or out-of-range
            values.
        max_drifted_share: largest share of drifted columns that passes; 0.2 by default, which lets one odd column in
            five pass. Evidently's own default, a half, is silent while four of ten columns are broken.
        level: of the corrected p-values; `core.drift.monitoring.level_of` makes it smaller with each monitoring run.
        multivariate: whether a classifier is asked to tell the two sides apart, which warns of changes between
            columns; None asks it where the samples have at most 600,000 cells.
        html: file, or folder for a ``drift.html``, where Evidently's page is written.
        run: MLflow run that gets the page as an artifact under ``drift/``.
        subject: what is judged, in the report's title; the names of the tables where left out.

    Returns:
        The verdict; ``require`` it to stop a flow. When the page could not be made a note says so: the verdict stands.

    Raises:
        ConfigError: `columns` names one that is in neither table, a number is out of range, or the run is not there.
        BackendError: a table or MLflow could not be reached; tried again.

    Source: `scipy.stats` through `core.drift.statistical_tests` for the verdict, Evidently and MLflow for the page.
    """
    limits = _limits(spec, min_change, max_drifted_share)
    sides = _Sides.of(current, reference, model, _known_columns(spec, columns))
    found = table_drift.compare_profiles(
        current=sides.current,
        reference=sides.reference.profile,
        columns=columns or sides.columns(),
        alpha=level,
        min_change=limits["min_change"],
        usual=sides.reference.usual.of(sides.current.rows),
    )
    judge = Judge(
        **limits,
        weights=sides.reference.weights,
        target=sides.reference.target or (spec.target if spec else ""),
        unpredictable=sides.unpredictable,
        separation=_separation(sides, found, multivariate),
        usual_auc=sides.reference.usual.auc,
    )
    report = judge.report(found, subject or _subject({"current": current, "reference": reference}))
    return _with_page(report, sides, found, _Pages(html, run))


def _subject(parameters: dict[str, Any]) -> str:
    given = parameters.get("subject")
    return given or f"{table_name(parameters['current'])} against {table_name(parameters['reference'])}"


def _limits(spec: ModelSpec | None, min_change: float | None, max_drifted_share: float | None) -> dict[str, float]:
    """Take what was asked for, else what the spec says, else the defaults."""
    policy = spec.drift if spec else Drift()
    change = policy.min_change if min_change is None else min_change
    share = policy.max_drifted_share if max_drifted_share is None else max_drifted_share
    if not 0 <= share <= 1:
        raise ConfigError(f"max_drifted_share is from 0 to 1, saw {share}")
    return {"min_change": change, "max_drifted_share": share}


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
    def of(cls, current: Any, reference: Any, model: Any, columns: list[str] | None) -> _Sides:
        known = reference if isinstance(reference, TrainingProfile) else None
        if known is not None and columns is None:
            columns = [*known.features, known.target] if known.features else None
        now = _profile(current, columns)
        base = known or TrainingProfile(_profile(reference, columns), ())
        sides = cls(now, base)
        return sides if model is None else sides.asked(model.estimator if isinstance(model, LoadedModel) else model)

    def asked(self, model: Any) -> _Sides:
        """Let the model say something about both sides."""
        names = list(self.reference.features) or [str(name) for name in getattr(model, "feature_names_in_", ())]
        names = names or list(self.reference.profile.sample.columns)
        if not self.current.rows:
            return self
        try:
            now, _ = with_predictions(self.current, model, self.current.sample[names])
            base = self.reference.profile
            if PREDICTION not in base.columns:
                base, _ = with_predictions(base, model, base.sample[names])
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


@dataclass(frozen=True)
class _Pages:
    """Where pages go."""

    html: str | os.PathLike[str] | None
    run: LoggedRun | None

    @property
    def path(self) -> Path | None:
        """The file that was asked for."""
        if self.html is None:
            return None
        path = Path(self.html)
        return path if path.suffix.lower() in (".html", ".htm") and not path.is_dir() else path / PAGE_NAME


def _with_page(report: Report, sides: _Sides, found: table_drift.TableDrift, pages: _Pages) -> Report:
    """Draw the pages where they are wanted, and note what they show or why there is none."""
    drawn = {
        "current": sides.current,
        "reference": sides.reference.profile,
        "comparison": found,
        "report": report,
        "known": sides.reference,
    }
    notes: list[str] = []
    links: list[tuple[str, str]] = []
    if pages.html is not None or pages.run is not None:
        notes, links = _page(pages, drawn)
    if not notes:
        return report
    return report.model_copy(update={"notes": (*report.notes, *notes), "links": (*report.links, *links)})


def _page(pages: _Pages, drawn: dict[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """Draw the page and keep it with the run; returns notes and links for the report."""
    from prefect_mlops.core.drift.evidently.page import write_page

    with tempfile.TemporaryDirectory() as scratch:
        file = pages.path or Path(scratch) / PAGE_NAME
        notes, made = _attempted("page", drawn["report"].subject, lambda: write_page(file, **drawn))
        if not made or pages.run is None:
            return notes, []
        client, run_id = mlflow_client(), pages.run.run_id
        with backend(f"logging the drift page to run {run_id}"):
            client.log_artifact(run_id, str(file), mlflow_tags.DRIFT_FOLDER)
            experiment = client.get_run(run_id).info.experiment_id
    where = f"experiments/{experiment}/runs/{run_id}/artifacts/{mlflow_tags.DRIFT_FOLDER}/{quote(file.name)}"
    url = page(where)
    return notes, [("The page in MLflow", url)] if url else []


def _attempted(what: str, subject: str, draw: Callable[[], list[str]]) -> tuple[list[str], bool]:
    """Draw; whatever Evidently trips over, we judged: a page is for looking at."""
    from prefect_mlops.core.drift.evidently.table import NothingToDrawError

    try:
        return draw(), True
    except NothingToDrawError as error:
        return [f"There is no {what}: {error}."], False
    except Exception as error:
        _logger.warning("the %s of %s could not be made", what, subject, exc_info=True)
        reason = one_line(f"{type(error).__name__}: {error}")
        return [f"The {what} could not be made; the verdict stands without it. {reason}"], False
