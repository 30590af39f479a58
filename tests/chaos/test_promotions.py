"""Promotions and rollbacks that race, and that are killed at every point: history and alias agree in the end."""

from __future__ import annotations

import io
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.promotion.history import champion_entry, read_history, read_rows
from prefect_mlops.core.promotion.tampering import audit_history
from prefect_mlops.core.values import ModelVersion
from prefect_mlops.tracking import registry
from prefect_mlops.tracking.anchors import noted
from prefect_mlops.tracking.registry import find_version

pytestmark = pytest.mark.slow
PAIRS, MODEL = 50, "shop"
# Children that import everything once and are forked before anything is opened: deltalake does not survive that.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "mlflow",
        "mlflow.store.tracking.sqlalchemy_store",
        "deltalake",
        "pyarrow.dataset",
        "prefect_mlops.tracking.registry",
    ]
)


@pytest.fixture
def variables(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a child needs to know; three versions are registered."""
    told = {
        "MLFLOW_TRACKING_URI": mlflow_store,
        "PREFECT_MLOPS_HOME": str(tmp_path),
        "PREFECT_MLOPS_LAKE": str(tmp_path / "lake"),
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    client = MlflowClient()
    client.create_registered_model(MODEL)
    for number in (1, 2, 3):
        client.create_model_version(MODEL, source=f"file:///nowhere/{number}")
    return told


def version(number: int) -> ModelVersion:
    return find_version(MODEL, version=number)


def promote(number: int, **options: Any) -> None:
    registry.promote(version(number), **options)


def state() -> tuple[int | None, int | None]:
    """Who is champion by the history, and by the alias."""
    champion, alias = champion_entry(read_history(MODEL)), find_version(MODEL)
    return (champion.version if champion else None), (alias.version if alias else None)


def whole() -> bool:
    found = audit_history(MODEL, read_rows(MODEL), noted(MlflowClient(), MODEL))
    assert found.passed, found.problems
    return True


def _racer(told: dict[str, str], barrier: Any, orders: Any, answers: Any) -> None:
    os.environ.update(told)
    while (order := orders.get()) is not None:
        number, options = order
        chosen = version(number)
        barrier.wait()
        try:
            registry.promote(chosen, **options)
            answers.put((number, ""))
        except ConflictError as lost:
            answers.put((number, str(lost)))


class Racers:
    """Two processes that promote in the same moment."""

    def __init__(self, told: dict[str, str]) -> None:
        self.barrier, self.answers = CONTEXT.Barrier(3), CONTEXT.Queue()
        self.orders = [CONTEXT.Queue(), CONTEXT.Queue()]
        self.processes: list[BaseProcess] = [
            CONTEXT.Process(target=_racer, args=(told, self.barrier, orders, self.answers)) for orders in self.orders
        ]
        for process in self.processes:
            process.start()

    def race(self, pair: list[int], *, sweep: bool, **options: Any) -> dict[int, str]:
        """Let two versions be promoted at once, and tidy come between if so wanted. Returns what each was told."""
        for orders, number in zip(self.orders, pair, strict=True):
            orders.put((number, options))
        self.barrier.wait(timeout=120)
        if sweep:
            registry.sweep()
        return dict(self.answers.get(timeout=120) for _ in pair)

    def stop(self) -> None:
        for orders, process in zip(self.orders, self.processes, strict=True):
            orders.put(None)
            process.join(30)


@pytest.fixture
def racers(variables: dict[str, str]) -> Iterator[Racers]:
    made = Racers(variables)
    yield made
    made.stop()


def test_of_two_promotions_in_the_same_moment_one_wins_and_the_other_is_told_who(racers: Racers) -> None:
    promote(1)
    winners: Counter[int] = Counter()
    for number in range(PAIRS):
        champion = version(state()[0])
        pair = [one for one in (1, 2, 3) if one != champion.version]
        told = racers.race(pair, sweep=bool(number % 2), replaces=champion)
        registry.sweep()
        (winner,) = [one for one, lost in told.items() if not lost]
        (lost,) = filter(None, told.values())
        assert f"v{winner} became champion meanwhile (promoted v{winner} at" in lost
        assert f"was judged against v{champion.version}" in lost
        assert state() == (winner, winner)
        winners[pair.index(winner)] += 1
    entries = read_history(MODEL)
    assert sum(entry.kind == "promoted" for entry in entries) == 1 + PAIRS
    assert not [entry for entry in entries if entry.details.get("by_hand")], "nobody's hand was in it"
    assert sum(winners.values()) == PAIRS
    assert whole()


def test_where_both_replace_whoever_is_champion_both_win_and_the_last_one_stays(racers: Racers) -> None:
    for number in range(PAIRS // 2):
        told = racers.race([1, 2], sweep=bool(number % 2))
        registry.sweep()
        assert list(told.values()) == ["", ""]
        assert len(set(state())) == 1
    entries = read_history(MODEL)
    assert sum(entry.kind == "promoted" for entry in entries) == 2 * (PAIRS // 2)
    assert not [entry for entry in entries if entry.details.get("by_hand")]
    assert whole()


WRITES = {"promote": 6, "rollback": 4}  # entry, alias, entry, and tags
POINTS = [(command, point) for command, writes in WRITES.items() for point in range(writes + 1)]


def _command(told: dict[str, str], command: str, kill_before: int | None, said: Any) -> None:
    """Run a command of ours; die before a write, counted from 0."""
    os.environ.update(told)
    os.chdir(told["PREFECT_MLOPS_HOME"])
    from prefect_mlops.cli.commands.promote import promote as promoting
    from prefect_mlops.cli.commands.rollback import rollback
    from prefect_mlops.core.promotion import history

    count = 0

    def deadly(write: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            nonlocal count
            if count == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return write(*args, **options)

        return counted

    history.append_next = deadly(history.append_next)
    for name in ("set_registered_model_alias", "set_model_version_tag"):
        setattr(MlflowClient, name, deadly(getattr(MlflowClient, name)))
    shown = io.StringIO()
    with redirect_stdout(shown):
        if command == "promote":
            promoting(MODEL, 3, why="better", by="anna", without_rehearsal=True)
        else:
            rollback(MODEL, why="worse", by="anna", to=None)
    if kill_before == count:  # after the last write, before the answer
        os.kill(os.getpid(), signal.SIGKILL)
    said.put((count, shown.getvalue()))


def run(told: dict[str, str], command: str, *, kill_before: int | None = None) -> tuple[int, str] | None:
    said = CONTEXT.Queue()
    child = CONTEXT.Process(target=_command, args=(told, command, kill_before, said))
    child.start()
    answer = None if kill_before is not None else said.get(timeout=60)
    child.join(60)
    assert child.exitcode == (0 if kill_before is None else -signal.SIGKILL)
    return answer


def wanted(command: str) -> tuple[int, int]:
    return (3, 3) if command == "promote" else (1, 1)


@pytest.fixture
def champions(variables: dict[str, str]) -> dict[str, str]:
    """Two champions, so that there is one to go back to, and none before it."""
    promote(1)
    promote(2)
    return variables


def test_these_are_all_the_points_to_be_killed_at(champions: dict[str, str]) -> None:
    assert run(champions, "rollback") == (
        WRITES["rollback"],
        "shop: v1 is champion again; v2 was taken back by anna.\n",
    )
    answer = run(champions, "promote")
    assert answer == (WRITES["promote"], "shop: v3 is champion, in place of v1; it was not rehearsed.\n")


@pytest.mark.parametrize("sweep", [False, True], ids=["again", "sweep, then again"])
@pytest.mark.parametrize(("command", "point"), POINTS)
def test_killed_at_any_point_and_run_again_it_is_finished(
    champions: dict[str, str], command: str, point: int, sweep: bool
) -> None:
    kind = {"promote": "promoted", "rollback": "rolled_back"}[command]
    before = len(read_history(MODEL))
    run(champions, command, kill_before=point)
    begun = [entry.kind for entry in read_history(MODEL)[before:]].count(kind)
    assert begun == (point > 0)
    if sweep:
        registry.sweep()
        assert state() == (wanted(command) if begun else (2, 2))
        assert whole()
    _, shown = run(champions, command)
    assert state() == wanted(command)
    entries = read_history(MODEL)[before:]
    assert [entry.kind for entry in entries].count(kind) == 1, "it was done once"
    assert not [entry for entry in entries if entry.details.get("by_hand")]
    assert whole()
    (made,) = [entry for entry in entries if entry.kind == kind]
    assert noted(MlflowClient(), MODEL)[made.sequence] == made.hash
    assert ("already" in shown or "by this rollback" in shown) == bool(begun)
    assert registry.sweep() == ()
