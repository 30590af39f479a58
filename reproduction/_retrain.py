"""Train a model again from its records: the program that `reproduction.reproduce` runs in the code of a commit.

Run by its path, with the file of an order: it imports whatever prefect-mlops that commit has, so it uses only what all
of them have, and hands everything over in plain files.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def main() -> None:
    """Do what the order says; ``result.json`` says how far it came and, in a sentence, what stopped it."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - also where PYTHONSAFEPATH leaves it out
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, result = Path(order["out"]), {"stage": "spec"}
    try:
        _work(order, out, result)
        result["stage"] = "done"
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything, and a person gets a sentence
        text = " ".join(str(error).split())[:500]
        named = type(error).__module__.startswith("prefect_mlops.")  # its messages are sentences
        result["failed"] = text if named and text else f"{type(error).__name__}: {text}"
    (out / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _work(order: dict[str, Any], out: Path, result: dict[str, Any]) -> None:
    import prefect_mlops.core
    from prefect_mlops.core.lineage.environment import environment, lock_digest
    from prefect_mlops.core.lineage.training_data import training_digest
    from prefect_mlops.core.specs.model import load_spec

    result["library"] = prefect_mlops.core.__file__
    result["lock"] = lock_digest()
    split_table, fit, _ = _steps()
    spec = load_spec(order["spec"])
    result.update(seed=spec.seed, spec_digest=spec.digest, tunes=spec.tune is not None, stage="data")
    table = spec.prepared(_rows(order, spec))
    split = split_table(table, spec.target, **spec.split_options, **_recorded_sides(order))
    X, y = _learned_from(order, split)
    result.update(data=training_digest(X, y), rows=len(X), stage="training")
    estimator = _tuned(spec.estimator, order["tuned"])
    fitted = _with_refit(order, fit(estimator, X, y, seed=spec.seed))
    result.update(environment=environment(), stage="predictions")
    _compare(order, fitted, split.X_test, out)


def _steps() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Return what splits, fits and reads; a library from before `core.training` has them inside of its tasks only."""
    try:
        from prefect_mlops.core.tables.read import read_table
        from prefect_mlops.core.training.fit import fit_estimator
        from prefect_mlops.core.training.split import split_table
    except ModuleNotFoundError:
        from prefect_mlops import tasks

        return tasks.split_table.fn, tasks.train_model.fn, tasks.load_table.fn
    return split_table, fit_estimator, read_table


def _recorded_sides(order: dict[str, Any]) -> dict[str, Any]:
    """Return the rule of the recorded sides, which may be those of an earlier champion; none of older records."""
    if not order.get("sides"):
        return {}
    from prefect_mlops.core.lineage.sides import SideRule

    return {"sides": SideRule.model_validate(order["sides"])}


def _learned_from(order: dict[str, Any], split: Any) -> tuple[pd.DataFrame, pd.Series]:
    """Return the training rows; of a version that was refitted those of both sides."""
    import pandas as pd

    if not order.get("refit_of"):
        return split.X_train, split.y_train
    return pd.concat([split.X_train, split.X_test]), pd.concat([split.y_train, split.y_test])


def _with_refit(order: dict[str, Any], fitted: Any) -> Any:
    """Note in the lineage of a refitted model what `flows.refit` notes there."""
    if order.get("refit_of"):
        from prefect_mlops.core.lineage.training_data import attach, lineage_of

        learned = lineage_of(fitted)
        assert learned is not None  # noqa: S101 - `fit` has attached it
        noted = learned.model_dump(mode="json") | {"rule": order["sides"], "refit_of": order["refit_of"]}
        attach(fitted, type(learned).model_validate(noted))
    return fitted


def _rows(order: dict[str, Any], spec: Any) -> pd.DataFrame:
    """Read the rows from where they were read then; where the lake has moved, from where it is now."""
    from prefect_mlops.core.errors import ConfigError
    from prefect_mlops.core.lake.ingest import without_marks

    load_table = _steps()[2]
    addresses = [*order["addresses"], spec.source(order["version"])]
    for address in addresses[:-1]:
        try:
            return without_marks(load_table(address))
        except ConfigError:
            continue
    return without_marks(load_table(addresses[-1]))


def _tuned(estimator: Any, parameters: dict[str, Any]) -> Any:
    from sklearn.base import clone

    return clone(estimator).set_params(**parameters) if parameters else estimator


def _compare(order: dict[str, Any], estimator: Any, test: pd.DataFrame, out: Path) -> None:
    """Write the estimator, and what it and the registered one say about the same rows."""
    import joblib
    import numpy as np
    import skops.io

    from prefect_mlops.core.model_files.smoke_test import predictions_of, read_rows

    skops.io.dump(estimator, out / "model.skops")
    registered = skops.io.load(order["model"], trusted=order["trusted"])
    asked = {"test": test}
    if order["rows"]:
        asked["stored"] = read_rows(Path(order["rows"]))
    # Threads of a forest add up its trees in the order they finish, so one model gives other last bits at each call.
    with joblib.parallel_config(backend="sequential"):
        for name, rows in asked.items():
            np.savez(out / f"{name}_then.npz", **predictions_of(registered, rows))  # type: ignore[arg-type]
            np.savez(out / f"{name}_now.npz", **predictions_of(estimator, rows))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
