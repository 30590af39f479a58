"""A project's life, run as a program: what each run asks of servers, storage and processor is counted and printed.

It runs in a process of its own, beside a `shop.py` in a git repository: what other tests have imported, cached or
patched does not count.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import httpx
import mlflow
import pandas as pd
import shop
from sklearn.pipeline import Pipeline
from sqlalchemy import event
from sqlalchemy.engine import Engine

from prefect_mlops.core.promotion.history import champion_entry, read_history
from prefect_mlops.core.tables import digests
from prefect_mlops.flows.ingest import ingest
from prefect_mlops.flows.monitor import monitor
from prefect_mlops.flows.train import train

LARGE = 200  # rows from which on a table is the data, not an example of it
TABLES = ("datasets", "quarantine", "arrivals", "history", "looks")
counts: Counter[str] = Counter()
lock = threading.Lock()


def note(what: str) -> None:
    with lock:  # tasks run in threads
        counts[what] += 1


def through(owner: Any, name: str, what: Callable[..., str]) -> None:
    """Let a real function run as ever, and note that it was called."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def called(*given: Any, **named: Any) -> Any:
        if noted := what(*given, **named):
            note(noted)
        return real(*given, **named)

    setattr(owner, name, called)


def opened(_table: object, uri: object = "", *_rest: Any, **_named: Any) -> str:
    return "opens of " + next((part for part in Path(str(uri)).parts if part in TABLES), "another table")


def program(_process: object, args: Any, *_rest: Any, **_named: Any) -> str:
    name = Path(args[0]).name
    return f"processes of {'git' if name == 'git' else 'Python' if name.startswith('python') else name}"


def copied(table: pd.DataFrame, deep: bool = True) -> str:
    return "deep copies" if deep and len(table) >= LARGE else ""


def asked(_model: object, X: pd.DataFrame, **_named: Any) -> str:
    return "predictions" if len(X) >= LARGE else ""


def watch() -> None:
    through(httpx.Client, "send", lambda *_, **__: "requests to Prefect")
    for name, method in list(vars(mlflow.MlflowClient).items()):
        if not name.startswith("_") and callable(method):
            through(mlflow.MlflowClient, name, lambda *_, **__: "calls of MLflow")
    through(deltalake.DeltaTable, "__init__", opened)
    through(subprocess.Popen, "__init__", program)
    through(pd.DataFrame, "copy", copied)
    through(Pipeline, "fit", lambda _model, X, *_: "fits" if len(X) >= LARGE else "")
    for name in ("predict", "predict_proba", "decision_function"):
        through(Pipeline, name, asked)
    digest = digests.columns_digest
    for module in list(sys.modules.values()):
        if getattr(module, "columns_digest", None) is digest:
            through(module, "columns_digest", lambda *_, **__: "digests of all cells")

    @event.listens_for(Engine, "before_cursor_execute")
    def _said(connection: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        if "mlflow" in str(connection.engine.url) and not text.startswith("PRAGMA"):
            note("SQL statements of MLflow")


def arrive(day: int) -> None:
    shop.sales(day, rows=600).to_csv(f"landing/day-{day}.csv", index=False)


def main() -> None:
    """Live through it; print the counts of each run, and what was said."""
    story: dict[str, Any] = {}

    def run(name: str, flow: Callable[[], Any]) -> Any:
        counts.clear()
        said = flow()
        story[name] = dict(sorted(counts.items()))
        return said

    arrive(1)
    ingest("shop.sales_files")
    train("shop.model")  # what is done once in a process, such as registering a flow, is done
    watch()
    run("ingest nothing", lambda: ingest("shop.sales_files"))
    arrive(2)
    run("ingest a file", lambda: ingest("shop.sales_files"))
    decided = run("train", lambda: train("shop.model"))
    again = run("train again", lambda: train("shop.model"))
    arrive(3)
    ingest("shop.sales_files")
    run("monitor", lambda: monitor("shop.model"))
    story["first run"] = champion_entry(read_history("shop")).flow_run
    story["said"] = [decided.model_dump(mode="json"), again.model_dump(mode="json")]
    Path("shop.py").write_text(Path("shop.py").read_text() + "\n# edited\n")
    train("shop.model", data="@2")
    run("train after an edit", lambda: train("shop.model", data="@2"))
    print(json.dumps(story))


if __name__ == "__main__":
    main()
