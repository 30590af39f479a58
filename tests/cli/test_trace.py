"""`prefect-mlops trace`, on models that the tasks trained, logged, registered and promoted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from prefect_mlops.cli import app
from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.lake.ingest import without_marks
from prefect_mlops.core.promotion.decisions import Approval, sign
from prefect_mlops.core.promotion.history import Entry, record
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.tasks import (
    evaluate_model,
    ingest_files,
    load_table,
    log_run,
    promote_model,
    register_model,
    roll_back_model,
    split_table,
    train_model,
)
from prefect_mlops.tasks.loop import record_decision

pytestmark = pytest.mark.slow
Call = Callable[..., SimpleNamespace]
DAYS = 12


@pytest.fixture(scope="module")
def world(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a lake of twelve files and two promoted versions, of which the first was taken back to."""
    home = tmp_path_factory.mktemp("world")
    shutil.copy(migrated_store, home / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
        patch.setenv("PREFECT_MLOPS_LAKE", str(home / "lake"))
        patch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
        patch.chdir(home)
        repository(home)
        arrive(range(1, 3))
        promoted(trained())
        arrive(range(3, DAYS + 1))
        (home / "shop_notes.txt").write_text("one\ntwo\n")
        second = trained(C=0.5)
        request = record(Entry(model="shop", kind="requested", version=2, replaced=1, reason="who agrees?"))
        said = sign("shop", by="anna", approvers=(), comment="agreed [b]\x1b[2J", request=request, typed="a.b")
        promoted(second, replaced=1, approval=said)
        roll_back_model.fn("shop", to=1, why="v2 was wrong about hats", by="ben")
        yield home


@pytest.fixture
def call(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: its code and what it wrote."""
    capsys.readouterr()

    def called(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", "trace", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        written = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=written.out, err=written.err)

    return called


def repository(home: Path) -> None:
    (home / "shop_notes.txt").write_text("one\n")
    (home / "requirements.lock").write_text("numpy==2.4\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "shop_notes.txt"], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=home, check=True)


def arrive(days: range) -> None:
    import shop

    Path("landing").mkdir(exist_ok=True)
    for day in days:
        table = shop.sales(day, 60)
        table.loc[:1, "price"] = 2000.0 if day == DAYS else table.loc[:1, "price"]
        table.to_csv(Path("landing", f"{day:02}.csv"), index=False)
        ingest_files.fn([f"{day:02}.csv"], dataset=shop.sales_files)


def trained(data: str = "", *, C: float = 1.0) -> ModelVersion:
    """Train and register as `train` does, without the flow."""
    import shop

    spec = shop.model
    rows = spec.prepared(without_marks(load_table.fn(spec.source(data))))
    split = split_table.fn(rows, spec.target, **spec.split_options)
    estimator = make_pipeline(spec.estimator.steps[0][1], LogisticRegression(C=C))
    model = train_model.fn(estimator, split.X_train, split.y_train, seed=7)
    scores = evaluate_model.fn(model, split.X_test, split.y_test, metrics=["roc_auc"])
    tags = {"prefect_mlops.spec": "shop.model", "prefect_mlops.spec.digest": spec.digest}
    run = log_run.fn(model, scores, experiment="shop", example=split.X_test, reports=reports("data"), tags=tags)
    return register_model.fn(run, "shop")


def reports(*kinds: Any) -> list[Report]:
    return [
        Report(kind=kind, subject="shop", rows=60, checks=(Check(name="good enough", subject=f"{kind} of it", passed=True, observed="0.7"),))
        for kind in kinds
    ]  # fmt: skip


def promoted(version: ModelVersion, *, replaced: int | None = None, approval: Approval | None = None) -> None:
    decision = Decision(model="shop", version=version.version, decision="promoted", reason="better [bold]by far[/]")
    decision = decision.model_copy(update={"replaced": replaced})
    promote_model.fn(version, decision=decision, recipe="r", approval=approval)
    record_decision.fn(version, decision, recipe="r", reports=reports("gate"))


def test_the_tree_leads_from_the_model_to_the_rows_and_to_who_decided(call: Call) -> None:
    shown = call("shop/2")
    assert shown.code == 0, shown.err
    lines = [line.lstrip("│├└─ ") for line in shown.out.splitlines()]
    text = "\n".join(lines)
    assert lines[0].startswith("shop v2, registered ")
    assert "dataset shop, version @12" in lines
    assert "12 files, 718 rows" in lines
    assert any(line.startswith("12.csv: 58 rows, 2 refused, @12, sha256:") for line in lines)
    assert "and 2 earlier ones; --json has them all" in lines
    assert "not committed: shop_notes.txt (+1 -0 lines)" in lines
    assert "spec shop.model, digest sha256:" in text
    assert "lock digest sha256:" in text
    assert f"Python {sys.version.split()[0]}" in text
    assert "BLAS threads" in text
    assert "seed 7" in lines
    assert "logisticregression: C=0.5" in text
    assert "Checks of the data: passed" in lines
    assert "Gates: passed" in lines
    assert "roc_auc 0." in text
    assert "why: better [bold]by far[/]" in lines
    assert "answered by anna (signed as a.b): agreed [b]\\x1b[2J" in lines
    assert "replaced v1" in lines
    assert "champion from" in text
    assert "\x1b" not in shown.out
    assert "Not known" not in text


def test_the_champion_is_traced_where_no_version_is_named(call: Call) -> None:
    for words in (("shop",), ("shop@champion",), ("shop/v1",)):
        lines = call(*words).out.splitlines()
        assert lines[0].startswith("shop v1, champion, @champion, registered ")
    assert "rolled back" in "\n".join(lines)
    assert "v2 was wrong about hats" in "\n".join(lines)
    assert sum("champion from" in line for line in lines) == 2


def test_everything_as_json_with_whole_digests(call: Call) -> None:
    told = json.loads(call("shop/2", "--json").out)
    assert len(told["data"]["files"]) == DAYS
    assert [file["version"] for file in told["data"]["files"]] == list(range(1, DAYS + 1))
    assert len(told["data"]["digest"]) == len("sha256:") + 64
    assert told["data"]["source_digest"]
    assert told["data"]["columns"] == {"kind": "string", "price": "float", "weight": "float", "hour": "integer"}
    assert len(told["code"]["commit"]) == 40
    assert told["code"]["dirty"] is True
    assert "+two" in told["code"]["diff"]
    assert "scikit-learn" in told["environment"]["packages"]
    said = {"by": "anna", "comment": "agreed [b]\x1b[2J", "request": 3, "typed": "a.b"}
    assert told["approval"].items() >= said.items()
    assert [one["kind"] for one in told["decisions"]] == ["requested", "promoted"]
    assert (told["replaced"], told["champion"], told["unknown"]) == (1, False, [])
    assert told["reports"].keys() == {"data", "gate"}


def test_the_trace_of_an_older_data_version_has_its_files_only(call: Call) -> None:
    told = json.loads(call("shop/1", "--json").out)
    assert [file["path"] for file in told["data"]["files"]] == ["01.csv", "02.csv"]
    assert (told["data"]["version"], told["data"]["source_rows"]) == (2, 120)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("shopp", "did you mean 'shop'?"),
        ("shop/9", "shop has no version 9; the newest are: shop/1, shop/2"),
        ("shop@live", "no alias 'live'; there are: @champion"),
        ("a/b/c", "write MODEL, MODEL/3 for its version 3, or MODEL@champion"),
        ("shop/0", "names no model"),
    ],
)
def test_wrong_requests_say_what_would_be_right(call: Call, words: str, said: str) -> None:
    done = call(words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_without_mlflow_it_is_said_what_to_set(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    done = call("shop")
    assert done.code == 2
    assert "set MLFLOW_TRACKING_URI" in done.err


@pytest.fixture
def broken(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store, to break; the lake is only read."""
    shutil.copy(world / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def unknown(call: Call, name: str) -> str:
    done = call(name, "--json")
    assert done.code == 0, done.err
    assert call(name).code == 0
    return "\n".join(json.loads(done.out)["unknown"])


def test_a_run_that_is_gone_leaves_decision_and_digest(broken: Path, call: Call) -> None:
    client = MlflowClient()
    known = client.get_model_version("shop", "1")
    client.create_model_version("shop", source=known.source, run_id="0" * 32, tags={"prefect_mlops.data": "sha256:ab"})
    client.create_model_version("shop", source="file:///nowhere")
    assert "MLflow run 00000000000000000000000000000000 is gone" in unknown(call, "shop/3")
    assert json.loads(call("shop/3", "--json").out)["data"]["digest"] == "sha256:ab"
    assert "registered without a run" in unknown(call, "shop/4")
    client.delete_run(known.run_id)
    assert "is deleted" in unknown(call, "shop/1")
    client.delete_model_version("shop", "2")
    assert "the registry has v2 no more" in unknown(call, "shop/2")
    assert json.loads(call("shop/2", "--json").out)["approval"]["by"] == "anna"


def test_artifacts_that_are_gone_or_are_not_what_they_were(broken: Path, call: Call) -> None:
    client = MlflowClient()
    run_id = client.get_model_version("shop", "1").run_id
    folder = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    kept = broken / "kept"
    shutil.copytree(folder, kept)
    try:
        (folder / "reports" / "gate.json").write_text('{"kind": "new"}')
        (folder / "lineage" / "data.json").write_text("nonsense")
        said = unknown(call, "shop/1")
        assert "reports/gate.json: it is not a report" in said
        assert "its columns" in said
        shutil.rmtree(folder)
        assert "artifacts are gone" in unknown(call, "shop/1")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)


def test_another_lake_is_not_taken_for_the_one_it_was_trained_from(
    call: Call, tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world / "lake", tmp_path / "lake")
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    assert "trained from another lake" in unknown(call, "shop/1")
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "empty"))
    said = unknown(call, "shop/1")
    assert "the files of its data version" in said
    assert "nothing was ever decided" in said


def test_a_history_changed_by_hand_keeps_nobody_from_the_rest(
    call: Call, tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import DeltaTable

    shutil.copytree(world / "lake", tmp_path / "lake")
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    DeltaTable(history_uri("shop")).update({"details": "'x'"})
    assert "prefect-mlops audit verify shop" in unknown(call, "shop/1")


def rows_of_flights(rows: int = 20_000) -> pd.DataFrame:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"n": random.normal(size=rows), "flag": random.random(rows) < 0.5})
    table["at"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows), unit="min")
    return table.assign(late=(table["n"] > 0).astype("int64"))


def test_one_changed_cell_of_row_15_000_changes_the_digest_of_the_trace(broken: Path, call: Call) -> None:
    def number(table: pd.DataFrame) -> None:
        table.loc[15_000, "n"] += 1e-9

    def timestamp(table: pd.DataFrame) -> None:
        table.loc[15_000, "at"] += pd.Timedelta(1, "s")

    def boolean(table: pd.DataFrame) -> None:
        table.loc[15_000, "flag"] = not table.loc[15_000, "flag"]

    def nothing(table: pd.DataFrame) -> None:
        pass

    digests = {}
    for change in (nothing, number, timestamp, boolean, nothing):
        table = rows_of_flights()
        change(table)
        table.to_parquet(broken / "rows.parquet")
        read = load_table.fn(str(broken / "rows.parquet"))
        X, y = read.drop(columns="late"), read["late"]
        estimator = make_pipeline(make_column_transformer(("passthrough", ["n"])), LogisticRegression())
        model = train_model.fn(estimator, X, y)
        scores = evaluate_model.fn(model, X.head(500), y.head(500), metrics=["accuracy"])
        version = register_model.fn(log_run.fn(model, scores, experiment="digests", example=X.head()), "digests")
        told = json.loads(call(f"digests/{version.version}", "--json").out)
        assert told["data"]["rows"] == 20_000
        assert told["data"]["uri"].endswith("rows.parquet")
        assert told["data"]["files"] == []
        digests.setdefault(change.__name__, []).append(told["data"]["digest"])
    assert digests["nothing"][0] == digests["nothing"][1]
    assert len({digest for found in digests.values() for digest in found}) == 4
