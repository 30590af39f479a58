"""Make the stored home: what version 0.1.0 of this library, at commit abe91bf, leaves behind of a small project's life.

To be run with an installation of exactly that, in a checkout of it or with its interpreter; it takes a few minutes:

    python tests/stored/make_home.py

It writes the archive of the home, and beside it what 0.1.0 itself answers about it (`expected.json`), the events it
emitted (`events.json`) and what it deployed (`deployments.json`). Newer versions have to read all of it:
`test_home_of_0_1.py`. The project is made a git repository with a fixed commit, which can be made anywhere again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

STORED = Path(__file__).resolve().parent
PROGRAM = str(Path(sys.executable).with_name("prefect-mlops"))
FOREIGN = ("PREFECT_", "MLFLOW_", "_MLFLOW_", "GIT_", "OMP_")
COMMITTED = "2026-01-01T00:00:00+0000"
SIGNED = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in {"NAME": "parcels", "EMAIL": "parcels@example.org", "DATE": COMMITTED}.items()
}
LEFT_OUT = ("prefect", "logs", "reports", "stack.lock")
ASKED = (
    "files parcels",
    "quarantine list parcels",
    "quarantine show parcels day-2.csv",
    "status parcels",
    "status parcels.careful",
    "history parcels",
    "history Parcels.Careful",
    "audit show parcels",
    "audit show Parcels.Careful",
    "audit verify",
    *(f"trace parcels/{version}" for version in range(1, 7)),
    *(f"trace Parcels.Careful/{version}" for version in range(1, 4)),
    "compare parcels/1 parcels/3",
    "compare parcels/2 Parcels.Careful/3",
    "backfill parcels.early --dry-run",
    "lake optimize --dry-run --keep-days 0",
)


def main() -> None:
    """Live, keep what is left of it, and ask about it."""
    with tempfile.TemporaryDirectory() as scratch:
        home, project = Path(scratch, "home"), Path(scratch, "project")
        commit = make_project(project)
        recorded = live_in(home, project)
        import stored_home  # only now: a training asks whether all loaded code is in the project's repository

        strip(home)
        stored_home.replace_paths(home, str(home), stored_home.HOME)
        for word in (scratch, str(Path.home()), str(Path(sys.prefix).parent)):
            if found := stored_home.files_with(home, word):
                raise SystemExit(f"{word!r} is still in {found}")
        stored_home.pack(home)
        there = stored_home.unpack(Path(scratch, "unpacked"))
        told = {"commit": commit, **recorded.pop("told"), "answers": answers(there, project), **facts(there)}
        keep("expected", json.loads(json.dumps(told).replace(str(there), stored_home.HOME)))
        for name, value in recorded.items():
            keep(name, value)
    print(f"{stored_home.ARCHIVE}: {stored_home.ARCHIVE.stat().st_size:,} bytes")


def make_project(folder: Path) -> str:
    """Make the project's repository, with the same commit every time; returns the commit."""
    shutil.copytree(STORED / "project", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.iterdir():
        os.utime(path, (0, 0))  # a file newer than this process may not be what it has loaded
    for command in ("init --quiet", "add --all", "-c commit.gpgsign=false commit --quiet --message parcels"):
        subprocess.run(["git", *command.split()], cwd=folder, env={**os.environ, **SIGNED}, check=True)
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def live_in(home: Path, project: Path) -> dict[str, Any]:
    """Live through it on a stack of its own; returns what is not in the home."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.chdir(project)
    sys.path.insert(0, str(project))
    sys.dont_write_bytecode = True
    from prefect_mlops.deployments.stack import embedded_environment, local_stack

    os.environ.update(embedded_environment(home))
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "ERROR"
    with local_stack(home) as stack:
        os.environ.update(stack.environment)
        told = live(home)
        subprocess.run([PROGRAM, "deploy", "--yes", "--project", str(project)], check=True)
        drain()
        return {"told": told, "events": events(stack.prefect_api_url), "deployments": deployed(stack.prefect_api_url)}


def live(home: Path) -> dict[str, Any]:
    """Let files arrive, models be trained and people decide: at least one of everything that is stored."""
    arrive(home)
    train_parcels(home)
    watch_parcels(home)
    decide_carefully()
    return fingerprint()


def arrive(home: Path) -> None:
    """A file that is committed, one in part, one refused, one a duplicate; some of it comes in later, by a replay."""
    from prefect_mlops.flows.ingest import ingest
    from prefect_mlops.flows.replay import replay

    landing = home / "landing" / "parcels"
    landing.mkdir(parents=True)
    sales(1).to_csv(landing / "day-1.csv", index=False)
    second = sales(2)
    second.loc[10:14, "kind"] = "scarf"
    second.loc[20:22, "price"] = -5.0
    second.to_csv(landing / "day-2.csv", index=False)
    sales(3).rename(columns={"kind": "sort"}).to_csv(landing / "day-3.csv", index=False)
    ingest("parcels.files")
    shutil.copy(landing / "day-1.csv", landing / "copy.csv")
    fourth = sales(4)
    fourth.loc[:150, "kind"] = "scarf"
    fourth.to_csv(landing / "day-4.csv", index=False)
    ingest("parcels.files")
    replay("parcels.mended")


def sales(day: int, rows: int = 240, *, price: float = 40.0) -> Any:
    """The sales of one day; shoes and dear things are sent back more often."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(day)
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        day * 86_400 + np.sort(random.integers(0, 86_400, rows)), unit="s"
    )
    table = pd.DataFrame(
        {
            "sold_at": at,
            "kind": random.choice(["shoes", "shirt", "hat"], rows),
            "price": random.normal(price, 10.0, rows).clip(1.0, 500.0).round(2),
            "weight": random.gamma(2.0, 0.5, rows).round(3),
        }
    )
    chance = 1 / (1 + np.exp(-(2.5 * (table["kind"] == "shoes") + (table["price"] - 40) / 8 - 1)))
    return table.assign(returned=(random.random(rows) < chance).astype("int64"))


def train_parcels(home: Path) -> None:
    """Promoted, refused, stopped by the breaker, failed, rolled back, promoted by hand, moved by hand, backfilled."""
    from mlflow import MlflowClient

    from prefect_mlops.flows.backfill import backfill
    from prefect_mlops.flows.ingest import ingest
    from prefect_mlops.flows.rollback import rollback
    from prefect_mlops.flows.train import train
    from prefect_mlops.tasks import repair_alias

    expect(train("parcels.model", data="@1").decision, "promoted")
    with edited("requirements.lock"):  # what is not committed is kept with the run
        expect(train("parcels.worse", data="@2", automatic=True).decision, "refused")
    expect(train("parcels.worse", data="@2", automatic=True).decision, "braked")
    expect(train("parcels.worse", data="@2").again, True)  # a person has looked: the breaker is closed
    sales(5).to_csv(home / "landing" / "parcels" / "day-5.csv", index=False)
    ingest("parcels.mended")
    expect(train("parcels.model").decision, "promoted")
    with contextlib.suppress(ValueError):
        train("parcels.failing")
    rollback("parcels.model", why="complaints from the warehouse", name="ben")
    why = "the complaints were about another model"
    subprocess.run([PROGRAM, "promote", "parcels", "3", "--why", why, "--by", "anna"], check=True)
    MlflowClient().set_registered_model_alias("parcels", "champion", "1")
    MlflowClient().set_registered_model_alias("parcels", "shadow", "2")
    repair_alias.fn("parcels")
    backfill("parcels.early", start="@1", end="@3")


def watch_parcels(home: Path) -> None:
    """Look at a day that is as ever, at one that is not, and at how good the answers were."""
    from prefect_mlops.core.looks import Look, level_of
    from prefect_mlops.flows.check_freshness import check_freshness
    from prefect_mlops.flows.ingest import ingest
    from prefect_mlops.flows.monitor import monitor
    from prefect_mlops.tasks import record_look

    expect(monitor("parcels.model").passed, False)  # nobody buys scarves on a single day
    expect(monitor("parcels.model", current="@4").passed, True)
    sales(6, price=65.0).to_csv(home / "landing" / "parcels" / "day-6.csv", index=False)
    ingest("parcels.files")
    expect(monitor("parcels.model").passed, False)
    monitor("parcels.model")  # the same look again
    record_look.fn(
        Look(
            model="parcels",
            kind="performance",
            champion=3,
            number=1,
            key="first week",
            at=datetime(2024, 1, 8, tzinfo=timezone.utc),
            subject="the week of 2024-01-01",
            rows=100,
            passed=True,
            level=level_of(1),
            scores={"roc_auc": 0.75},
            intervals={"roc_auc": (0.7, 0.8)},
        )
    )
    expect(check_freshness("parcels.promised").passed, False)


def decide_carefully() -> None:
    """Requested and approved, requested and expired, answered by a stranger; the last request still waits."""
    from prefect_mlops.core.errors import ConfigError
    from prefect_mlops.flows.decide import decide
    from prefect_mlops.flows.tidy import tidy
    from prefect_mlops.flows.train import train

    expect(train("parcels.careful").decision, "requested")
    with contextlib.suppress(ConfigError):
        decide("parcels.careful", "approve", "mallory")
    expect(decide("parcels.careful", "approve", "anna", comment="looks right").decision, "promoted")
    expect(train("parcels.hasty").decision, "requested")
    time.sleep(2)
    tidy()
    expect(train("parcels.tuned").decision, "requested")


def fingerprint() -> dict[str, Any]:
    """Say under which name the last training is known, and that it is."""
    from prefect_mlops.core.provenance import code_state
    from prefect_mlops.core.repeats import known_before
    from prefect_mlops.core.specs import load_spec
    from prefect_mlops.flows.train import train

    known = known_before(load_spec("parcels.tuned"), "", code_state())
    expect(known is not None, True)
    decision = train("parcels.tuned")
    expect(decision.again, True)
    return {"fingerprint": known.model_dump(mode="json"), "known": decision.model_dump(mode="json")}


def facts(home: Path) -> dict[str, Any]:
    """Say what no command says: digests, profiles, looks, trials, and what the models answer."""
    os.environ.update(PREFECT_MLOPS_HOME=str(home))
    from mlflow import MlflowClient

    from prefect_mlops.core import lake, looks, references, specs
    from prefect_mlops.core.history import champion_entry, read_history
    from prefect_mlops.deployments.stack import embedded_environment
    from prefect_mlops.tasks import find_reference, load_model

    os.environ.update(embedded_environment(home))
    names, client = ("parcels", "Parcels.Careful"), MlflowClient()
    rows = {"parcels": _rows(["kind", "price", "weight", "hour"]), "Parcels.Careful": _rows(["price", "weight"])}
    models = {name: load_model.fn(name) for name in names}
    kept = {name: find_reference.fn(model.version) for name, model in models.items()}
    trials = client.search_runs(
        [client.get_experiment_by_name("Parcels.Careful").experiment_id], "tags.`prefect_mlops.search` LIKE '%'"
    )
    return {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in ("mlflow", "scikit-learn", "pandas", "deltalake", "prefect")},
        "digests": {
            str(one): lake.table_ref("parcels", one).model_dump(mode="json") for one in range(1, _newest() + 1)
        },
        "specs": {
            name: _digests(specs.load_spec(f"parcels.{name}")) for name in ("model", "worse", "careful", "tuned")
        },
        "champions": {name: champion_entry(read_history(name)).version for name in names},
        "answers of models": {
            name: model.estimator.predict_proba(rows[name])[:, 1].tolist() for name, model in models.items()
        },
        "references": {name: _summary(references, one) for name, one in kept.items()},
        "looks": [look.model_dump(mode="json") for look in looks.read_looks("parcels")],
        "trials": sorted(
            [{"tags": _ours(run.data.tags), "score": run.data.metrics["roc_auc"]} for run in trials],
            key=lambda trial: trial["tags"]["prefect_mlops.search.trial"],
        ),
        "tags": {
            f"{name}/{one.version}": {
                "run": _ours(client.get_run(one.run_id).data.tags),
                "version": _ours(one.tags),
            }
            for name in names
            for one in client.search_model_versions(f"name = '{name}'")
        },
    }


def answers(home: Path, project: Path) -> dict[str, Any]:
    """Ask the command line, as a person would."""
    foreign = {name for name in os.environ if name.startswith(FOREIGN)}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    environment["PREFECT_MLOPS_HOME"] = str(home)
    found = {}
    for command in ASKED:
        done = subprocess.run(
            [PROGRAM, *command.split(), "--json"], cwd=project, env=environment, capture_output=True, text=True
        )
        if not done.stdout:
            raise SystemExit(f"{command}: {done.stderr}")
        found[command] = json.loads(done.stdout)
        if packages := (found[command].get("environment") or {}).get("packages"):
            found[command]["environment"]["packages"] = len(packages)  # the archive has their names
    return found


def events(api: str) -> list[dict[str, Any]]:
    """Return what was emitted, oldest first, with one from the watcher, which no flow emits."""
    from prefect.client.orchestration import get_client

    from prefect_mlops.deployments.announcements import Announcement

    announced = Announcement("parcels", ("day-1.csv",), 1).event()
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[announced])
        time.sleep(5)  # until the server has written down what it was sent
        wanted = {"filter": {"event": {"prefix": ["prefect-mlops."]}, "order": "ASC"}, "limit": 50}
        page = client.request("POST", "/events/filter", json=wanted).json()
        found = page["events"]
        while page["next_page"]:
            page = client.request("GET", page["next_page"].removeprefix(api)).json()
            found += page["events"]
    return [{name: one[name] for name in ("event", "occurred", "resource", "related", "payload")} for one in found]


def deployed(api: str) -> dict[str, Any]:
    """Return the deployments and automations as the server has them."""
    import httpx

    with httpx.Client(base_url=api, trust_env=False) as client:
        flows = {row["id"]: row["name"] for row in client.post("/flows/filter", json={}).json()}
        deployments = client.post("/deployments/filter", json={}).json()
        automations = client.post("/automations/filter", json={}).json()
    return {
        "deployments": [{"flow": flows[row["flow_id"]], **row} for row in deployments],
        "automations": automations,
    }


def strip(home: Path) -> None:
    """Take out of the home what no later version reads: Prefect's database, logs, pages."""
    for name in LEFT_OUT:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in home.rglob("*.html"):
        path.unlink()


def drain() -> None:
    """Let logs and events reach the server before it goes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=30)


@contextlib.contextmanager
def edited(name: str) -> Iterator[None]:
    """Change a tracked file for a moment."""
    path = Path(name)
    before = path.read_text()
    path.write_text(before + "# edited\n")
    try:
        yield
    finally:
        path.write_text(before)
        os.utime(path, (0, 0))


def expect(seen: object, wanted: object) -> None:
    """Stop where the story goes another way than it was meant to."""
    if seen != wanted:
        raise SystemExit(f"expected {wanted!r}, saw {seen!r}")


def keep(name: str, value: object) -> None:
    """Write a JSON file beside this one."""
    (STORED / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _rows(columns: list[str]) -> Any:
    return sales(1).head(20).assign(hour=lambda table: table["sold_at"].dt.hour)[columns]


def _newest() -> int:
    from prefect_mlops.core.lake import table_ref

    return int(table_ref("parcels").version or 0)


def _digests(spec: Any) -> dict[str, str]:
    return {"digest": spec.digest, "preparation": spec.preparation}


def _ours(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(tags.items()) if name.startswith(("prefect", "mlflow.source.git"))}


def _summary(references: Any, kept: Any) -> dict[str, Any]:
    return {
        "digest": references.profile_digest(kept.profile),
        "rows": kept.profile.rows,
        "features": list(kept.features),
        "target": kept.target,
        "weights": dict(kept.weights),
        "preparation": kept.preparation,
        "auc": kept.usual.auc,
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


if __name__ == "__main__":
    main()
