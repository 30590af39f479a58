"""What version 0.1.0 stored is understood by this one: a home it made, the events it emitted, what it deployed.

`make_home.py` made them, and wrote down what 0.1.0 itself answers about that home.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
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
from prefect_mlops.flows.run_fingerprint import RunFingerprint, decided_before
from prefect_mlops.reproduction.recorded_run import fetch_recorded_run
from prefect_mlops.tasks import find_training_profile, find_version, load_model
from prefect_mlops.tasks._runs import Caller
from prefect_mlops.tasks._trials import SearchStore, read_trials

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
    """Leave out when the files were unpacked, and count packages as `make_home.py` does."""
    if isinstance(value, dict):
        kept = {name: comparable(part) for name, part in value.items() if name not in TIMES_OF_FILES}
        packages = kept.get("packages")
        return {**kept, "packages": len(packages)} if isinstance(packages, dict) else kept
    return [comparable(part) for part in value] if isinstance(value, list) else value


# What stands in the home.


def test_the_archive_holds_no_path_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    home = stored_home.unpack(tmp_path / "home")
    assert stored_home.files_with(home, str(home))
    stored_home.replace_paths(home, str(home), stored_home.HOME)
    for word in ("file:///tmp", '"/tmp', "/root/", "/work/", str(tmp_path)):
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
    assert worse.source is not None
    assert worse.source.version == 2
    assert (worse.packages or {})["scikit-learn"] == EXPECTED["packages"]["scikit-learn"]
    assert worse.environment["python"] == EXPECTED["python"]
    assert {"packages", "rows", "predictions"} <= worse.files.keys()
    tuned = fetch_recorded_run("Parcels.Careful", 3, tmp_path / "tuned").tuned
    assert tuned in [json.loads(trial["tags"][tags.SEARCH_PARAMS]) for trial in EXPECTED["trials"]]
