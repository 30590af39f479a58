"""What version 0.1.0 stored is understood by this one: a home it made, the events it emitted, what it deployed.

`make_home.py` made them, and wrote down what 0.1.0 itself answers about that home.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.worker import EventsWorker
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from typer.testing import CliRunner

from prefect_mlops.cli.app import app
from prefect_mlops.core import tags
from prefect_mlops.core.drift.monitoring import read_monitoring_runs
from prefect_mlops.core.drift.training_profile import profile_digest
from prefect_mlops.core.lake.ingest import read_ledger, table_ref
from prefect_mlops.core.promotion.history import champion_entry, read_history
from prefect_mlops.core.specs.model import load_spec
from prefect_mlops.deployments.local.home import recall
from prefect_mlops.deployments.local.stack import embedded_environment
from prefect_mlops.deployments.rollout.apply import plan_rollout
from prefect_mlops.deployments.rollout.inventory import DECLARED_LABEL, PROJECT_LABEL
from prefect_mlops.deployments.watch.announcements import Announcement
from prefect_mlops.flows.backfill import backfill
from prefect_mlops.flows.decide import decide
from prefect_mlops.flows.ingest import ingest
from prefect_mlops.flows.monitor import monitor
from prefect_mlops.flows.rollback import rollback
from prefect_mlops.flows.run_fingerprint import RunFingerprint, decided_before
from prefect_mlops.flows.train import train
from prefect_mlops.reproduction.recorded_run import fetch_recorded_run
from prefect_mlops.reproduction.reproduce import reproduce_model
from prefect_mlops.tasks import find_training_profile, find_version, load_model
from prefect_mlops.tracking.runs import Caller
from prefect_mlops.tracking.trials import SearchStore, read_trials

STORED = Path(__file__).parent
sys.path.insert(0, str(STORED))
try:
    import make_home
    import stored_home
finally:
    sys.path.remove(str(STORED))

EXPECTED: dict[str, Any] = json.loads((STORED / "expected.json").read_text())
EVENTS: list[dict[str, Any]] = json.loads((STORED / "events.json").read_text())
DEPLOYED: dict[str, Any] = json.loads((STORED / "deployments.json").read_text())
CHAMPIONS = EXPECTED["champions"]
NEEDS_A_SERVER = "backfill parcels.early --dry-run"
TIMES_OF_FILES = {"modified", "oldest"}  # those of unpacking
ADDED_TO_CHECKS = {"id", "threshold"}  # after 0.1
ADDED = {"holdout"}  # to traces
# Digests of recipes name the release of scikit-learn, and the bytecode of `prepare`.
SAME_LIBRARIES = EXPECTED["packages"]["scikit-learn"] == make_home._version("scikit-learn")
SAME_PYTHON = sys.version_info[:2] == tuple(int(part) for part in EXPECTED["python"].split(".")[:2])
same_recipes = pytest.mark.skipif(not (SAME_LIBRARIES and SAME_PYTHON), reason="recipes have other names here")


@contextlib.contextmanager
def living_in(home: Path, project: Path) -> Iterator[Path]:
    """Use a home as a person does who sets nothing but where it is, in the folder of its project."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in embedded_environment(home).items():
            if name.startswith(("MLFLOW_", "_MLFLOW_", "PREFECT_MLOPS_")):
                patch.setenv(name, value)
        patch.delenv("PREFECT_MLOPS_LAKE", raising=False)
        patch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        patch.chdir(project)
        patch.syspath_prepend(str(project))
        yield home


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's repository, with the commit it had."""
    folder = tmp_path_factory.mktemp("project") / "parcels"
    assert make_home.make_project(folder) == EXPECTED["commit"]
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_home.unpack(tmp_path_factory.mktemp("stored") / "home")


@pytest.fixture
def home(unpacked: Path, project: Path) -> Iterator[Path]:
    """The stored home, shared by the tests that only read."""
    with living_in(unpacked, project):
        yield unpacked


@pytest.fixture
def own_home(tmp_path: Path, project: Path, prefect_api: None) -> Iterator[Path]:
    """The stored home, for one test to live on in."""
    with living_in(stored_home.unpack(tmp_path / "home"), project) as home:
        yield home


def answer(command: str, home: Path) -> Any:
    done = CliRunner().invoke(app, [*command.split(), "--json"])
    assert done.stdout, f"{done.stderr} {done.exception}"
    return json.loads(done.stdout.replace(str(home), stored_home.HOME))


def comparable(value: Any) -> Any:
    """Leave out when the files were unpacked and the keys that came later; count packages as `make_home.py`."""
    if isinstance(value, dict):
        left = TIMES_OF_FILES | ADDED | (ADDED_TO_CHECKS if "severity" in value else set())
        kept = {name: comparable(part) for name, part in value.items() if name not in left}
        packages = kept.get("packages")
        return {**kept, "packages": len(packages)} if isinstance(packages, dict) else kept
    return [comparable(part) for part in value] if isinstance(value, list) else value


# What stands in the home.


def test_the_archive_holds_no_path_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    home = stored_home.unpack(tmp_path / "home")
    assert stored_home.files_with(home, str(home))
    stored_home.replace_paths(home, str(home), stored_home.HOME)
    for word in ("file:///tmp", '"/tmp', "/root/", str(Path(__file__).parents[2]), str(tmp_path)):
        assert stored_home.files_with(home, word) == []
    assert recall(home)["ports"]["prefect"] > 0


@pytest.mark.parametrize("command", [one for one in make_home.ASKED if one != NEEDS_A_SERVER])
def test_the_command_line_answers_as_it_did(home: Path, command: str) -> None:
    assert comparable(answer(command, home)) == comparable(EXPECTED["answers"][command])


def test_every_data_version_has_its_digest(home: Path) -> None:
    for version, known in EXPECTED["digests"].items():
        ref = table_ref("parcels", int(version)).model_dump(mode="json")
        assert {**ref, "uri": ref["uri"].replace(str(home), stored_home.HOME)} == known
    assert {line.state for line in read_ledger("parcels").lines} == {"committed", "partly", "refused", "duplicate"}


@pytest.mark.parametrize("model", CHAMPIONS)
def test_history_and_alias_name_the_champion_and_it_answers_as_it_did(home: Path, model: str) -> None:
    champion, loaded = champion_entry(read_history(model)), load_model.fn(model)
    assert champion is not None
    assert champion.version == loaded.version.version == CHAMPIONS[model]
    columns = ["price", "weight"] if model == "Parcels.Careful" else ["kind", "price", "weight", "hour"]
    said = loaded.estimator.predict_proba(make_home._rows(columns))[:, 1].tolist()
    assert said == pytest.approx(EXPECTED["answers of models"][model])


@pytest.mark.parametrize("model", CHAMPIONS)
def test_the_profile_of_the_training_rows_is_read(home: Path, model: str) -> None:
    version = find_version.fn(model)
    assert version is not None
    profile, known = find_training_profile.fn(version), EXPECTED["references"][model]
    assert profile is not None
    assert profile_digest(profile.profile) == known["digest"]
    assert (profile.profile.rows, list(profile.features), profile.target) == (
        known["rows"],
        known["features"],
        known["target"],
    )
    assert (profile.weights, profile.preparation) == (known["weights"], known["preparation"])


def test_monitoring_runs_are_read(home: Path) -> None:
    assert [run.model_dump(mode="json") for run in read_monitoring_runs("parcels")] == EXPECTED["looks"]


@pytest.mark.parametrize("which", EXPECTED["tags"])
def test_every_tag_of_runs_and_versions_has_a_name_that_is_known(which: str) -> None:
    known = {value for name, value in vars(tags).items() if name.isupper()}
    prefixes = (tags.ENVIRONMENT, tags.HISTORY)
    for found in EXPECTED["tags"][which].values():
        assert [name for name in found if name not in known and not name.startswith(prefixes)] == []


def test_trials_of_a_search_are_read(home: Path) -> None:
    client, known = MlflowClient(), EXPECTED["trials"]
    experiment = client.get_experiment_by_name("Parcels.Careful")
    key = known[0]["tags"][tags.SEARCH]
    trials = read_trials(SearchStore(client, experiment.experiment_id, key, "roc_auc", Caller()))
    assert [(trial.number, trial.params, trial.score) for trial in trials] == [
        (int(one["tags"][tags.SEARCH_TRIAL]), json.loads(one["tags"][tags.SEARCH_PARAMS]), one["score"])
        for one in known
    ]


def test_a_training_is_known_by_its_fingerprint(home: Path) -> None:
    known = RunFingerprint.model_validate(EXPECTED["fingerprint"])
    entry = decided_before(read_history("Parcels.Careful"), known)
    assert entry is not None
    assert (entry.kind, entry.version) == ("requested", EXPECTED["known"]["version"])


@same_recipes
@pytest.mark.parametrize("name", EXPECTED["specs"])
def test_a_recipe_has_the_digest_it_had(home: Path, name: str) -> None:
    spec = load_spec(f"parcels.{name}")
    assert {"digest": spec.digest, "preparation": spec.preparation} == EXPECTED["specs"][name]


def test_what_a_version_can_be_made_from_again_is_read(home: Path, tmp_path: Path) -> None:
    worse = fetch_recorded_run("parcels", 2, tmp_path / "worse")
    assert "+# edited" in worse.diff
    assert worse.tags.source is not None
    assert worse.tags.source.version == 2
    assert (worse.tags.commit, worse.tags.dirty) == (EXPECTED["commit"], True)
    assert (worse.packages or {})["scikit-learn"] == EXPECTED["packages"]["scikit-learn"]
    assert worse.tags.environment["python"] == EXPECTED["python"]
    assert {"packages", "rows", "predictions"} <= worse.files.keys()
    tuned = fetch_recorded_run("Parcels.Careful", 3, tmp_path / "tuned").tuned
    assert tuned in [json.loads(trial["tags"][tags.SEARCH_PARAMS]) for trial in EXPECTED["trials"]]


# What stands on a Prefect server.


def test_files_are_announced_as_they_were() -> None:
    known, announced = EVENTS[-1], Announcement("parcels", ("day-1.csv",), 1).event()
    assert {name: announced[name] for name in ("event", "resource", "payload")} == {
        name: known[name] for name in ("event", "resource", "payload")
    }


def test_automations_of_then_are_woken_by_events_of_then() -> None:
    woken = {}
    for automation in DEPLOYED["automations"]:
        trigger = EventTrigger.model_validate(copy.deepcopy(automation["trigger"]))  # Prefect changes what it is given
        seen = [ReceivedEvent.model_validate({**event, "id": automation["id"]}) for event in EVENTS]
        woken[automation["name"]] = [event.event for event in seen if trigger.covers(event)]
    assert set(woken["parcels arrived"]) == {"prefect-mlops.data.arrived"}
    assert woken["parcels committed"] == ["prefect-mlops.data.committed"] * 4


def emitted(name: str, *, since: datetime) -> dict[str, Any]:
    """The newest event of a name; the server writes events down a moment after it was sent them."""
    EventsWorker.drain_all(timeout=10)
    wanted = {"filter": {"event": {"name": [name]}, "occurred": {"since": since.isoformat()}}, "limit": 50}
    deadline = time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while not (found := client.request("POST", "/events/filter", json=wanted).json()["events"]):
            assert time.monotonic() < deadline, f"no event {name}"
            time.sleep(0.2)
    event: dict[str, Any] = found[0]
    return event


def same_form(event: dict[str, Any]) -> bool:
    """Tell whether an event is about the same resource and says the same things as one that 0.1.0 emitted."""
    forms = [(one["event"], one["resource"]["prefect.resource.id"], one["payload"].keys()) for one in EVENTS]
    return (event["event"], event["resource"]["prefect.resource.id"], event["payload"].keys()) in forms


def deploy_as_then(client: SyncPrefectClient) -> list[str]:
    """Make on the server what 0.1.0 had deployed on another one; returns the ids."""
    made, names = {}, ("name", "entrypoint", "description", "parameters", "parameter_openapi_schema", "job_variables")
    names += ("work_pool_name", "schedules", "labels", "pull_steps", "enforce_parameter_schema", "paused", "tags")
    client.request("POST", "/work_pools/", json={"name": "parcels-pool", "type": "process"})
    for row in DEPLOYED["deployments"]:
        flow = client.request("POST", "/flows/", json={"name": row["flow"]}).json()["id"]
        body = {**{name: row[name] for name in names}, "flow_id": flow}
        body["schedules"] = [{part: one[part] for part in ("schedule", "active", "slug")} for one in row["schedules"]]
        made[row["id"]] = client.request("POST", "/deployments/", json=body).json()["id"]
    for row in DEPLOYED["automations"]:
        body = {name: row[name] for name in ("name", "description", "enabled", "trigger")}
        actions = [{**one, "deployment_id": made[one["deployment_id"]]} for one in row["actions"]]
        client.request("POST", "/automations/", json={**body, "actions": actions})
    return list(made.values())


def test_what_was_deployed_is_known_as_the_projects_own(prefect_api: None, home: Path, project: Path) -> None:
    with get_client(sync_client=True) as client:
        made = deploy_as_then(client)
        try:
            plan = plan_rollout(project)
        finally:
            for deployment in made:
                client.delete_resource_owned_automations(f"prefect.deployment.{deployment}")
                client.delete_deployment(UUID(deployment))
    labels = {row["name"]: row["labels"] for row in DEPLOYED["deployments"]}
    assert {row[PROJECT_LABEL] for row in labels.values()} == {plan.project}
    assert len(plan.deployments) == len(labels)
    for deployment in plan.deployments:
        assert deployment.entry is not None
        assert deployment.present.digests == json.loads(labels[deployment.entry.name][DECLARED_LABEL])
        changed = {part.name for part in deployment.parts if part.verb != "same"}
        assert changed <= {"description", "parameter_openapi_schema"}, "only what a flow says of itself"


# Life goes on in it.


@pytest.mark.slow
def test_files_that_had_arrived_are_known_and_new_ones_are_taken(own_home: Path) -> None:
    started = datetime.now(timezone.utc)
    known = ingest("parcels.files").arrivals
    assert [arrival.state for arrival in known] == ["duplicate"] * 7, "they are looked into: their times are new"
    assert table_ref("parcels").version == len(EXPECTED["digests"])
    make_home.sales(7).to_csv(own_home / "landing" / "parcels" / "day-7.csv", index=False)
    taken = [arrival for arrival in ingest("parcels.files").arrivals if not arrival.again]
    assert [(arrival.path, arrival.state, arrival.rows, arrival.version) for arrival in taken] == [
        ("day-7.csv", "committed", 240, len(EXPECTED["digests"]) + 1)
    ]
    assert same_form(emitted("prefect-mlops.data.committed", since=started))
    assert table_ref("parcels", 1).digest == EXPECTED["digests"]["1"]["digest"]


@pytest.mark.slow
def test_new_data_is_compared_with_the_profile_and_counted_on(own_home: Path) -> None:
    monitor("parcels.model")  # what was looked at last: the same number again
    assert len(read_monitoring_runs("parcels")) == len(EXPECTED["looks"])
    make_home.sales(7).to_csv(own_home / "landing" / "parcels" / "day-7.csv", index=False)
    ingest("parcels.files")
    monitor("parcels.model")
    newest = read_monitoring_runs("parcels", kind="drift")[-1]
    assert (newest.subject, newest.champion, newest.number) == ("day-7.csv", CHAMPIONS["parcels"], 4)


@pytest.mark.slow
def test_a_challenger_is_judged_against_the_stored_champion(own_home: Path) -> None:
    make_home.sales(7).to_csv(own_home / "landing" / "parcels" / "day-7.csv", index=False)
    ingest("parcels.files")
    started = datetime.now(timezone.utc)
    decision = train("parcels.model")
    assert (decision.decision, decision.version, decision.replaced) == ("promoted", 7, CHAMPIONS["parcels"])
    assert same_form(emitted("prefect-mlops.gate.passed", since=started))
    back = rollback("parcels.model", why="as it was", name="anna")
    assert (back.kind, back.version) == ("rolled_back", CHAMPIONS["parcels"])
    assert answer("audit verify", own_home)["models"][1]["passed"]


@pytest.mark.slow
@same_recipes
def test_what_was_trained_before_is_not_trained_again(own_home: Path) -> None:
    assert {line.again for line in backfill("parcels.early", start="@1", end="@3")} == {True}


@pytest.mark.slow
def test_a_champion_of_sides_drawn_by_chance_is_not_compared_with(own_home: Path) -> None:
    """0.1 drew the sides of rows without a time by chance: which ones this champion has learned from is lost."""
    decision = train("parcels.careful", force=True)
    assert (decision.decision, decision.replaced) == ("refused", CHAMPIONS["Parcels.Careful"])
    assert "unseen rows, saw cannot tell for the champion: its lineage does not say how its rows" in decision.reason
    assert "promote makes the challenger champion without this comparison" in decision.reason


@pytest.mark.slow
def test_the_request_that_waits_is_decided(own_home: Path) -> None:
    decision = decide("parcels.careful", "approve", "anna", comment="still right")
    assert (decision.decision, decision.version, decision.replaced) == ("promoted", 3, CHAMPIONS["Parcels.Careful"])
    alias = find_version.fn("Parcels.Careful")
    assert alias is not None
    assert alias.version == 3
    assert answer("audit verify Parcels.Careful", own_home)["models"][0]["passed"]


@pytest.mark.slow
def test_compaction_keeps_what_models_were_trained_on(own_home: Path) -> None:
    kept = {table["table"]: table["kept"] for table in answer("lake optimize --keep-days 0", own_home)["tables"]}
    known = EXPECTED["answers"]["lake optimize --dry-run --keep-days 0"]["tables"]
    assert kept == {table["table"]: table["kept"] for table in known}
    assert all(one["passed"] for one in answer("audit verify", own_home)["models"])
    assert table_ref("parcels").digest == list(EXPECTED["digests"].values())[-1]["digest"]


@pytest.mark.slow
@same_recipes
def test_a_stored_model_is_made_again(own_home: Path, project: Path) -> None:
    made = reproduce_model("parcels", CHAMPIONS["parcels"], project=project)
    assert (made.data.state, made.code.state, made.seed.state) == ("same", "same", "same")
    assert made.predictions.state == "same", made.sentence
