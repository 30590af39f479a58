"""The contestants, and one race of them: in turns, so that noise hits all alike."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ready_flow import MODEL as SPEC
from stage import STOCK, TUNED, WARM, ContestantError, Peak, Seen, Stage, Worker

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

MAX_GAP = 0.001  # of the AUC of any two contestants
MAX_NOTE = 300
MADE_UP = re.compile(r"-[0-9a-f]{3}$")  # what Prefect adds to the name of a task's run
TRAIN = "prefect_mlops.flows.train.train"


@dataclass(frozen=True)
class Contestant:
    """A way to do the work.

    Attributes:
        key: what ``--only`` calls it.
        name: what the table calls it.
        what: how it runs.
        program: arguments of a script, or the entrypoint of a flow.
        worker: who runs the flow; None for a script.
        model: registered model it makes; empty where it makes none.
        page: whether it draws the drift page.
        warm: whether everything is imported before its clock starts.
        prints: a script that tells its seconds itself.
        more: further arguments of a script.
    """

    key: str
    name: str
    what: str
    program: str
    worker: Worker | None = None
    model: str = ""
    page: bool = True
    warm: bool = False
    prints: bool = False
    more: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Begin its row of the table."""
        row = {"key": self.key, "name": self.name, "what": self.what, "warm": self.warm, "auc": None, "note": ""}
        return row | {"seconds": [], "processor": [], "peak_mb": [], "first_line": [], "steps": {}}


CONTESTANTS = (
    Contestant("a", "naive script", "fresh process", "naive.py", model="a"),
    Contestant("b", "best script by hand", "fresh process", "by_hand.py", model="b"),
    Contestant("floor", "the floor: its bare library calls", "forked", "floor.py", model="b", warm=True, prints=True),
    Contestant(
        "floor2",
        "the floor of train",
        "forked",
        "floor.py",
        model="b",
        page=False,
        warm=True,
        prints=True,
        more=("train",),
    ),
    Contestant("c", "plain flow of the naive script", "stock worker", "plain_flow.py:pipeline", STOCK, "c"),
    Contestant("c2", "flow of the best script", "tuned stock worker", "tuned_flow.pipeline", TUNED, "c2"),
    Contestant("d", "our tasks, cold", "fresh process", "our_flow.py", model="d"),
    Contestant(
        "e2cold", "our ready flow train, cold", "fresh process", "ready_flow.py", None, "flights-late", page=False
    ),
    Contestant("e", "our tasks, warm", "warm worker", "our_flow.pipeline", WARM, "e", warm=True),
    Contestant("e2", "our ready flow train, warm", "warm worker", TRAIN, WARM, "flights-late", page=False, warm=True),
    Contestant(
        "e0", "as many empty tasks as train has", "warm worker", "empty_flows.empty", WARM, page=False, warm=True
    ),
)


class Race:
    """Rows of the table, filled round by round."""

    def __init__(self, stage: Stage, contestants: Sequence[Contestant], *, folder: Path, mlflow: Any) -> None:
        """Take who runs, where the data lies, and a client of MLflow."""
        self.stage, self.contestants, self.folder, self.mlflow = stage, contestants, folder, mlflow
        self.train_tasks = 0
        self.rows: dict[str, dict[str, Any]] = {one.key: one.row() for one in contestants}

    def run(self, repeats: int) -> list[dict[str, Any]]:
        """Run everybody once without a clock, which makes the champions and measures memory, then in turns."""
        for number in range(repeats + 1):
            for worker, group in itertools.groupby(self.contestants, key=lambda one: one.worker):
                waiting = [one for one in group if not self.rows[one.key]["note"]]
                try:
                    with self.stage.turn(worker) if worker and waiting else contextlib.nullcontext():
                        for one in waiting:
                            self._once(one, timed=number > 0)
                except Exception as error:  # noqa: BLE001 - no worker, no work; the others go on
                    for one in waiting:
                        self._fail(one, error)
        self._compare()
        return list(self.rows.values())

    def _once(self, one: Contestant, *, timed: bool) -> None:
        peak, row = None if timed else Peak(), self.rows[one.key]
        page = self.stage.folder / f"drift-{one.key}.html"
        page.unlink(missing_ok=True)
        before = self._champion(one.model)[0] if one.model else 0
        try:
            seen = self._execute(one, page, peak)
            if one.model and one.key != "floor2":  # which promotes nobody
                row["auc"] = self._checked(one, page, before)
        except Exception as error:  # noqa: BLE001 - whatever it raises, it did not do the work; the others go on
            self._fail(one, error)
            return
        if peak:
            row["peak_mb"].append(round(peak.megabytes))
        if one.worker or one.key == "d":
            row["steps"] = self._steps(seen)
        if timed:
            row["seconds"].append(round(seen.seconds, 3))
            row["processor"].append(round(seen.processor, 2))
            row["first_line"] += [] if seen.first_line is None else [round(seen.first_line, 3)]
        print(f"{one.key} {one.name}: {seen.seconds:.2f} s{'' if timed else ', not counted'}", file=sys.stderr)

    def _execute(self, one: Contestant, page: Path, peak: Peak | None) -> Seen:
        given = {"folder": str(self.folder), "name": one.model, "page": str(page)}
        if one.worker is None:
            arguments = ["train"] if one.key == "e2cold" else [*given.values(), *one.more]
            seen, said = self.stage.script(str(Path(__file__).parent / one.program), *arguments, peak=peak)
            return replace(seen, **json.loads(said.splitlines()[-1])) if one.prints else seen
        if one.key == "e0":
            given = {"tasks": self.train_tasks}
        elif one.key == "e2":
            given = {"model": SPEC, "force": True}
        assert self.stage.worker is not None  # noqa: S101 - it is this worker's turn
        with peak.of(self.stage.worker.process.pid) if peak else contextlib.nullcontext():
            seen = self.stage.run(one.worker, one.program, **given)
        if one.key == "e2":
            self.train_tasks = len(self.stage.tasks(seen.flow_run))
        return seen

    def _checked(self, one: Contestant, page: Path, before: int) -> float:
        """Return the AUC after a look at what the contestant left."""
        version, auc = self._champion(one.model)
        if version <= before:
            raise ContestantError(f"no new champion: v{before} before, v{version} after")
        if one.page and not (page.exists() and "</html>" in page.read_text()[-100:]):
            raise ContestantError("no drift page")
        return auc

    def _champion(self, model: str) -> tuple[int, float]:
        from mlflow.exceptions import MlflowException

        try:
            found = self.mlflow.get_model_version_by_alias(model, "champion")
        except MlflowException:
            return 0, 0.0
        return int(found.version), float(self.mlflow.get_run(found.run_id).data.metrics["roc_auc"])

    def _steps(self, seen: Seen) -> dict[str, float]:
        """Return the seconds of each task, and of the flow beside them, by the last run there was."""
        run: FlowRun = (
            self.stage.last_run() if seen.flow_run is None else self.stage.client.read_flow_run(seen.flow_run)
        )
        tasks = self.stage.tasks(run.id)
        steps: dict[str, float] = defaultdict(float)
        for task in tasks:
            steps[MADE_UP.sub("", task.name)] += task.total_run_time.total_seconds()
        steps["the flow beside its tasks"] = run.total_run_time.total_seconds() - sum(steps.values())
        return {name: round(seconds, 3) for name, seconds in steps.items()}

    def _compare(self) -> None:
        """Fail whoever's model is not as good as the others'."""
        scores = sorted(row["auc"] for row in self.rows.values() if row["auc"])
        middle = scores[len(scores) // 2] if scores else 0.0
        for row in self.rows.values():
            if row["auc"] and abs(row["auc"] - middle) > MAX_GAP:
                row["note"] = f"failed: AUC {row['auc']:.4f}, others {middle:.4f}"

    def _fail(self, one: Contestant, error: Exception) -> None:
        self.rows[one.key]["note"] = f"failed: {' '.join(str(error).split())[-MAX_NOTE:]}"
        print(f"{one.key} {one.name}: {error}", file=sys.stderr)
