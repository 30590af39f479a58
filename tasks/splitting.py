"""Split a table into training and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.tables.read import table_name
from prefect_mlops.core.training import split
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.values import Split, Table


def _run_name(parameters: dict[str, Any]) -> str:
    by = parameters["order_by"] or parameters["group_by"] or "chance"
    return f"split-{table_name(parameters['table'])}-by-{by}"


@step(_run_name)
def split_table(  # noqa: PLR0913 - a spec's options of the split, one by one
    table: Table,
    target: str,
    *,
    features: Sequence[str] | None = None,
    test_share: float = 0.2,
    order_by: str | None = None,
    group_by: str | None = None,
    stratify: bool = False,
    seed: int = 0,
    in_place: bool = False,
) -> Split:
    """Cut a table into training and test rows.

    Rows keep their order, index and types. Without ``order_by``, ``group_by`` or ``stratify`` rows are drawn by chance.
    Where the last rows of the table are held back, the sides are views of it and take no memory of their own.

    Args:
        table: (rows, columns), or where to read them.
        target: column to predict; without gaps, with at least two values.
        features: columns to learn from, in this order. None takes all but the target, ``order_by`` and ``group_by``:
            a clock or an id is rarely a feature; name them here where they are.
        test_share: share of the rows to hold back, above 0 and below 1; of the groups with ``group_by``.
        order_by: hold back the last rows by this column, as when the model will meet the future. Rows equal to the
            boundary value all go to the test side, so no moment stands on both sides.
        group_by: keep rows with one value of this column on one side.
        stratify: keep the shares of the target's values on both sides.
        seed: of the random choice; same seed and rows, same split.
        in_place: put the training rows before the test rows in the given frame itself, so that the sides can be views
            of it whichever rows are held back.

    Returns:
        Features and targets of both sides.

    Raises:
        ConfigError: unknown column, target among the features, a share out of range, options that exclude each other.
        DataCheckError: the rows cannot be split so; ``.report`` says what was seen.
        BackendError: the table could not be read.

    Source: `sklearn.model_selection.train_test_split`, `GroupShuffleSplit`.
    """
    return split.split_table(
        table,
        target,
        features=features,
        test_share=test_share,
        order_by=order_by,
        group_by=group_by,
        stratify=stratify,
        seed=seed,
        in_place=in_place,
    )
