"""Write a version's model card: what it is for, what it can do, what it learned from, and how to roll it back."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.cards import data, measures
from prefect_mlops.core.cards.card import MAX_CHECKS, Calibration, Card, Confusion, Fact, Measurements, Residuals, Score
from prefect_mlops.core.cards.page import render_page
from prefect_mlops.core.cards.sections import render_markdown
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.importance import NotMeasurableError
from prefect_mlops.core.lineage.environment import environment, lock_digest
from prefect_mlops.core.lineage.training_data import Lineage, estimator_name, lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Evaluation, LoadedModel, LoggedRun, ModelVersion, Split
from prefect_mlops.tasks import flow_context
from prefect_mlops.tasks._events import slug
from prefect_mlops.tasks._step import run_logger, step
from prefect_mlops.tracking.client import backend, mlflow_client

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Target
    from prefect_mlops.core.evaluation.importance import Importances

MAX_REASON = 200  # scikit-learn's messages can quote whole arrays

CardPart = TypeVar("CardPart")


def _run_name(parameters: dict[str, Any]) -> str:
    version = parameters["version"]
    return f"write-card-of-{getattr(version, 'name', '?')}-v{getattr(version, 'version', '?')}"


@step(_run_name, backend=True)
def write_card(  # noqa: PLR0913 - keyword-only but for the model
    model: Any,
    *,
    spec: ModelSpec,
    split: Split,
    scores: Evaluation,
    reports: Sequence[Report],
    run: LoggedRun,
    version: ModelVersion,
    measured: Measurements | None = None,
    publish: bool = True,
) -> Card:
    """Write the model card of a version to its MLflow run, and show it as an artifact of the Prefect run.

    A part that cannot be made, such as a calibration curve of a model without probabilities, is left out with a
    sentence why; the card is written all the same.

    Args:
        model: fitted scikit-learn compatible estimator, best from `train_model`, or a `LoadedModel`.
        spec: its recipe; the importances are those of the first gate's metric, shuffled by its seed.
        split: training rows, which the drift baseline describes, and test rows, which everything else is measured on.
        scores: on the test rows.
        reports: verdicts; the checks of the gate are shown, of the others the summary.
        run: MLflow run of the model; gets ``card.md``, ``card.html`` and ``card.json``.
        version: its version in the registry.
        measured: from `measure_model`; None measures now.
        publish: False leaves the artifact of the Prefect run to the flow, which may have something to say before it.

    Returns:
        The card.

    Raises:
        ConfigError: an argument of the wrong kind, or a run that MLflow does not have.
        BackendError: MLflow failed; retried.

    Source: `sklearn.inspection.permutation_importance`, `sklearn.calibration.calibration_curve`. The form follows
        Mitchell et al., Model Cards for Model Reporting (2019).
    """
    _require_kinds(spec=spec, split=split, scores=scores, reports=reports, run=run, version=version)
    estimator = model.estimator if isinstance(model, LoadedModel) else model
    measured = measured or measure_model.fn(estimator, spec=spec, split=split)
    card = _card(estimator, spec, measured, split, scores, reports, run=run, version=version)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / mlflow_tags.CARD_MARKDOWN).write_text(render_markdown(card), encoding="utf-8", errors="replace")
        (folder / mlflow_tags.CARD_HTML).write_text(render_page(card), encoding="utf-8", errors="replace")
        (folder / mlflow_tags.CARD_JSON).write_text(card.model_dump_json(indent=2), encoding="utf-8")
        client = mlflow_client()
        with backend(f"writing the model card to run {run.run_id}"):
            client.log_artifacts(run.run_id, str(folder))
    if publish:
        _publish(card)
    for part in card.left_out:
        run_logger().warning("Left out of the model card: %s: %s", part.name, part.value)
    return card


def _require_kinds(**given: Any) -> None:
    kinds: dict[str, Any] = {
        "spec": ModelSpec,
        "split": Split,
        "scores": Evaluation,
        "reports": (list, tuple),
        "run": LoggedRun,
        "version": ModelVersion,
    }
    for name, kind in kinds.items():
        if not isinstance(given[name], kind) or isinstance(given[name], bool):
            wanted = "list of Report" if name == "reports" else kind.__name__
            raise ConfigError(f"model card: {name}: expected {wanted}, got {type(given[name]).__name__}")
    wrong = [report for report in given["reports"] if not isinstance(report, Report)]
    if wrong:
        raise ConfigError(f"model card: reports: expected Report, got {type(wrong[0]).__name__}")


def _card(
    model: Any,
    spec: ModelSpec,
    measured: Measurements,
    split: Split,
    scores: Evaluation,
    reports: Sequence[Report],
    *,
    run: LoggedRun,
    version: ModelVersion,
) -> Card:
    """Collect everything."""
    # Of a model that was judged again the last verdict counts.
    gate = list({report.subject: report for report in reports if report.kind == "gate"}.values())
    lineage, checks = lineage_of(model), _failures_first(gate)
    return Card(
        model=version.name,
        version=version.version,
        estimator=estimator_name(model),
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
        provenance=_provenance(lineage, run, seed=spec.seed),
        links=_links(run, version),
    )


def _measure_name(parameters: dict[str, Any]) -> str:
    return f"measure-{estimator_name(parameters['model'])}-on-{len(parameters['split'].X_test)}-rows"


@step(_measure_name)
def measure_model(model: Any, *, spec: ModelSpec, split: Split) -> Measurements:
    """Measure what a model's card tells beside its scores, and what its training rows looked like.

    Each part is made on its own: one that cannot be made is None, or empty, and noted in ``left_out``.

    Args:
        model: fitted scikit-learn compatible estimator.
        spec: its recipe; the importances are those of the first gate's metric, shuffled by its seed.
        split: training rows, which the drift baseline describes, and test rows, which everything else is measured on.

    Returns:
        For `write_card`, and for the weights of `save_training_profile`.

    Source: `sklearn.inspection.permutation_importance`, `sklearn.calibration.calibration_curve`.
    """
    parts, seed = _Parts(), spec.seed
    importances = parts.make("Importances", lambda: _importances(model, spec, split, seed))
    behaviour = parts.make(
        "Calibration, confusion or residuals",
        lambda: measures.measure_behaviour(model, split.X_test, split.y_test, seed=seed),
    )
    first = [each.column for each in importances.columns] if importances else []
    target = parts.make("Target", lambda: _target(model, split))
    baseline = parts.make("Drift baseline", lambda: data.describe_columns(split.X_train, first=first))
    return Measurements(
        importances=importances,
        calibration=behaviour if isinstance(behaviour, Calibration) else None,
        residuals=behaviour if isinstance(behaviour, Residuals) else None,
        confusion=behaviour if isinstance(behaviour, Confusion) else None,
        target=target,
        baseline=baseline or (),
        left_out=tuple(parts.left_out),
    )


class _Parts:
    """Makes parts of the card and keeps the reasons why some could not be made."""

    def __init__(self) -> None:
        self.left_out: list[Fact] = []

    def make(self, name: str, made: Callable[[], CardPart]) -> CardPart | None:
        try:
            return made()
        except NotMeasurableError as error:
            self.left_out.append(Fact(name=name, value=str(error)))
        except Exception as error:  # noqa: BLE001 - a user's own estimator or metric raises what it likes
            reason = one_line(error, MAX_REASON).encode("utf-8", "replace").decode()
            self.left_out.append(Fact(name=name, value=f"{type(error).__name__}: {reason}"))
        return None


def _importances(model: Any, spec: ModelSpec, split: Split, seed: int) -> Importances:
    metric = spec.gates[0].scorer
    from prefect_mlops.core.evaluation.importance import measure_importances

    return measure_importances(model, split.X_test, split.y_test, metric=metric, seed=seed)


def _target(model: Any, split: Split) -> Target:
    from sklearn.base import is_regressor

    return data.describe_target(split.y_train, split.y_test, classes=not is_regressor(model))


def _failures_first(gate: Sequence[Report]) -> tuple[Check, ...]:
    failed = [check for report in gate for check in report.failures]
    return (*failed, *(check for report in gate for check in report.checks if check.passed))


def _scores(scores: Evaluation) -> tuple[Score, ...]:
    found = []
    for metric, value in scores.metrics.items():
        low, high = scores.intervals.get(metric) or (None, None)
        found.append(Score(metric=metric, value=value, low=low, high=high))
    return tuple(found)


def _provenance(lineage: Lineage | None, run: LoggedRun, *, seed: int) -> tuple[Fact, ...]:
    code, lock = flow_context.code_of_run(), lock_digest()
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


def _publish(card: Card) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        markdown=render_markdown(card),
        key=slug(f"card-{card.model}"),
        description=f"{card.model} v{card.version}: model card"[:200],
    )
