"""Train a challenger, judge it against the champion on rows neither has seen, promote or refuse it."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from prefect_mlops.core.values import Decision
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.flows.ui_labels import label


@flow(name="train", flow_run_name="train-{model}")
def train(
    model: Annotated[str, label("Model")],
    data: Annotated[str, label("Data")] = "",
    dry_run: Annotated[bool, label("Dry run")] = False,
    force: Annotated[bool, label("Decide again")] = False,
    automatic: Annotated[bool, label("Started by a trigger or schedule")] = False,
) -> Decision:
    """Train a challenger and let it replace the champion if it passes every gate.

    The same recipe on the same rows is decided once: started again, the flow says what was decided and by which run,
    and changes nothing. Where the dataset is one of the lake and all code is in a git repository, no row is read for
    that; a ``prepare`` that reads more than its rows, such as another file, then needs ``force`` when that changed.
    After gates, limits, approval or checks of the spec changed, the model is judged anew and not trained anew; where it
    is the champion, they count for the next challenger.
    A refused challenger is registered all the same, without the alias, so that the refusal can be looked up.
    One training of a model runs at a time; a run that is held back is completed and says what holds it.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        data: Empty takes the spec's dataset as it is now, @3 its version 3; or the address of any table like it.
        dry_run: Train and judge, but log, register and promote nothing. Trials of a search for parameters are kept in
            MLflow all the same: the run that follows goes on from them.
        force: Train and judge again, although the same recipe was decided on the same rows before.
        automatic: Honour the cool-down and the breaker of the spec's retrain. A person is not held back by them, and
            a decision on a person's request closes the breaker.

    Returns:
        The decision; the run is completed whether the challenger was promoted or refused. When another version
        becomes champion meanwhile, the challenger is judged again, against that one.

    Raises:
        ConfigError: the spec or the request is wrong.
        DataCheckError: the data does not meet the spec's suite.
        ConflictError: the run held the lock for too long and another run took it. Nothing was decided.
        BackendError: MLflow or storage failed.
    """
    with TrainingRun(model, data, dry_run=dry_run, force=force, automatic=automatic) as run:
        if run.load():
            run.train()
            run.judge()
            run.register()
            run.smoke_test()
        return run.conclude()
