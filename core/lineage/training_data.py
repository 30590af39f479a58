"""What a model was trained on, carried by the fitted estimator itself.

Tasks run in threads, processes and on other machines; the one thing that always arrives with the model is the model.
So `train_model` leaves its lineage on the estimator as a fitted attribute, as scikit-learn does with what it learns.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.tables.digests import columns_digest
from prefect_mlops.core.values import TableRef, Value

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTE = "trained_on_"
HOLDOUT_ATTRIBUTE = "prefect_mlops.holdout"  # on the attrs of training rows: fields of `Lineage`, as JSON text


class Lineage(Value):
    """What a model was trained on.

    Attributes:
        digest: over every cell of features and target, in order (`core.tables.digests`).
        rows: number of rows.
        columns: kind of each feature by name.
        gaps: features that had missing values.
        target: name of the target.
        source: where the table was read from, when `load_table` read it.
        seed: what every unset ``random_state`` was set to.
        until: last value of the column the split was ordered by, as text that sorts; None for other splits.
        order_by: name of that column; empty for other splits, and in lineages from before it was kept.
        rule: on which side of the split a row stands; None for splits by time and those of one's own.
        refit_of: version of the same model that was judged, where this one is its recipe fitted on the rows of both
            sides of the rule; None otherwise.
    """

    digest: str
    rows: int
    columns: dict[str, str] = Field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    target: str = ""
    source: TableRef | None = None
    seed: int = 0
    until: str | int | float | None = None
    order_by: str = ""
    rule: SideRule | None = None
    refit_of: int | None = None

    @property
    def holdout(self) -> str:
        """Which rows it has not learned from, for people; empty where that is not known."""
        if self.refit_of is not None:
            return f"none: it was trained on all rows after v{self.refit_of} was judged"
        if self.until is not None:
            return f"rows after {self.until}" + (f" by {self.order_by}" if self.order_by else "")
        return f"{self.rule.share:g} of the rows, by {self.rule.words}" if self.rule else ""


def training_digest(X: pd.DataFrame, y: pd.Series) -> str:
    """Digest the rows a model learns from: every cell of features and target, in order."""
    columns = ((str(name), X.iloc[:, place]) for place, name in enumerate(X.columns))
    target = "" if y.name is None else str(y.name)
    return columns_digest(itertools.chain(columns, [(target, y)]))


def attach(estimator: Any, lineage: Lineage) -> None:
    """Leave the lineage on a fitted estimator, as plain JSON so that any serializer takes it."""
    setattr(estimator, ATTRIBUTE, lineage.model_dump(mode="json"))


def lineage_of(estimator: Any) -> Lineage | None:
    """Read the lineage back; None for a model trained elsewhere."""
    found = getattr(estimator, ATTRIBUTE, None)
    if not isinstance(found, dict):
        return None
    try:
        return Lineage.model_validate(found)
    except ValidationError:
        return None


def estimator_name(estimator: Any) -> str:
    """Name a model after the estimator that decides, not after the pipeline around it."""
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__
