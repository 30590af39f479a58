"""Write a version's model card: what it is for, how good it is, what it learned from, and how to roll it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.cards import measures
from prefect_mlops.core.cards.assembly import make_card
from prefect_mlops.core.cards.sections import render_markdown
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.core.reports import Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.values import Evaluation, LoadedModel, LoggedRun, ModelVersion, Split
from prefect_mlops.tasks import flow_context
from prefect_mlops.tasks._events import slug
from prefect_mlops.tasks._step import run_logger, step
from prefect_mlops.tracking.cards import log_card

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Card, Measurements


def _run_name(parameters: dict[str, Any]) -> str:
    version = parameters["version"]
    return f"write-card-of-{getattr(version, 'name', '?')}-v{getattr(version, 'version', '?')}"


@step(_run_name, backend=True)
def write_card(  # noqa: PLR0913 - keyword-only but for the estimator
    estimator: Any,
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
        estimator: fitted scikit-learn compatible estimator, best from `train_model`, or a `LoadedModel`.
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
    fitted = estimator.estimator if isinstance(estimator, LoadedModel) else estimator
    card = make_card(
        fitted,
        spec=spec,
        measured=measured or measures.measure_model(fitted, spec=spec, split=split),
        split=split,
        scores=scores,
        reports=reports,
        run=run,
        version=version,
        code=flow_context.code_of_run(),
    )
    log_card(card, run)
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


def _measure_name(parameters: dict[str, Any]) -> str:
    return f"measure-{estimator_name(parameters['estimator'])}-on-{len(parameters['split'].X_test)}-rows"


measure_model = step(_measure_name)(measures.measure_model)


def _publish(card: Card) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        markdown=render_markdown(card),
        key=slug(f"card-{card.model}"),
        description=f"{card.model} v{card.version}: model card"[:200],
    )
