"""A card from its measurements, scores, reports, and the lineage of data and code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.cards import data
from prefect_mlops.core.cards.card import MAX_CHECKS, Card, Fact, Score
from prefect_mlops.core.lineage.environment import environment, lock_digest
from prefect_mlops.core.lineage.training_data import Lineage, estimator_name, lineage_of

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Measurements
    from prefect_mlops.core.lineage.environment import CodeState
    from prefect_mlops.core.reports import Check, Report
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import Evaluation, LoggedRun, ModelVersion, Split


def make_card(  # noqa: PLR0913 - a card gathers everything there is
    estimator: Any,
    *,
    spec: ModelSpec,
    measured: Measurements,
    split: Split,
    scores: Evaluation,
    reports: Sequence[Report],
    run: LoggedRun,
    version: ModelVersion,
    code: CodeState,
) -> Card:
    """Make the model card of a version.

    Args:
        estimator: the fitted one.
        spec: its recipe.
        measured: from `core.cards.measures.measure_model`.
        split: training rows, which the drift baseline describes, and test rows.
        scores: on the test rows.
        reports: verdicts; the checks of the gate are shown, of the others the summary.
        run: MLflow run of the model.
        version: its version in the registry.
        code: state of the code it was trained with.
    """
    # Of a model that was judged again the last verdict counts.
    gate = list({report.subject: report for report in reports if report.kind == "gate"}.values())
    lineage, checks = lineage_of(estimator), _failures_first(gate)
    return Card(
        model=version.name,
        version=version.version,
        estimator=estimator_name(estimator),
        purpose=spec.purpose,
        written=datetime.now(timezone.utc),
        rows_tested=scores.rows,
        columns=split.X_train.shape[1],
        data=data.describe_data(lineage, split, dataset=spec.dataset),
        scores=_scores(scores),
        checks=checks[:MAX_CHECKS],
        checks_total=len(checks),
        notes=tuple(note for report in gate for note in report.notes),
        verdicts=tuple(report.summary for report in reports if report.kind != "gate"),
        **dict(measured),
        limits=data.find_limits(
            lineage=lineage,
            ordered=spec.order_by is not None,
            rows_tested=scores.rows,
            checks=checks,
            target=measured.target,
            baseline=measured.baseline,
            importances=measured.importances,
            calibration=measured.calibration,
        ),
        rollback=f'prefect-mlops rollback {shlex.quote(version.name)} --why "..."',
        history=f"prefect-mlops history {shlex.quote(version.name)}",
        provenance=_provenance(lineage, run, code, seed=spec.seed),
        links=_links(run, version),
    )


def _failures_first(gate: Sequence[Report]) -> tuple[Check, ...]:
    failed = [check for report in gate for check in report.failures]
    return (*failed, *(check for report in gate for check in report.checks if check.passed))


def _scores(scores: Evaluation) -> tuple[Score, ...]:
    found = []
    for metric, value in scores.metrics.items():
        low, high = scores.intervals.get(metric) or (None, None)
        found.append(Score(metric=metric, value=value, low=low, high=high))
    return tuple(found)


def _provenance(lineage: Lineage | None, run: LoggedRun, code: CodeState, *, seed: int) -> tuple[Fact, ...]:
    lock = lock_digest()
    facts = {"MLflow run": run.run_id, "Model": run.model_uri, "Experiment": run.experiment}
    if code.commit:
        changed = f", with uncommitted changes ({mlflow_tags.UNCOMMITTED_DIFF} in the MLflow run)" if code.dirty else ""
        facts["Commit"] = f"{code.commit}{changed}"
    if lock:
        facts["Lock file"] = lock
    facts["Seed"] = str(lineage.seed if lineage else seed)
    facts["Environment"] = ", ".join(f"{name} {value}" for name, value in environment().items())
    return tuple(Fact(name=name, value=value) for name, value in facts.items())


def _links(run: LoggedRun, version: ModelVersion) -> tuple[Fact, ...]:
    pages = {"Version in MLflow": version.url, "Run in MLflow": run.url}
    return tuple(Fact(name=name, value=url) for name, url in pages.items() if url)
