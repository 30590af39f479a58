"""`prefect-mlops compare`, on versions whose runs say what those of the tasks say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from prefect_mlops.cli import app
from prefect_mlops.core.promotion.history import Entry, record
from prefect_mlops.core.reports import Check, Report

Call = Callable[..., SimpleNamespace]
DIFF = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n"


@pytest.fixture
def call(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """The command line in this process, with three versions: its code and what it wrote."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    client = MlflowClient()
    for name in ("shop", "other"):
        client.create_registered_model(name)
    a_version(client, "shop", C="1.0", packages="numpy==2.4\npandas==3.0\n", score=0.7)
    a_version(client, "shop", C="0.5", packages="numpy==2.5\npandas==3.0\n", score=0.75, digest="b", diff=DIFF)
    a_version(client, "other", C="1.0", packages=None, score=0.7)
    record(Entry(model="shop", kind="promoted", version=1, by="ada"))
    record(Entry(model="shop", kind="refused", version=2))
    client.set_registered_model_alias("shop", "champion", "1")

    def called(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", "compare", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        written = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=written.out, err=written.err)

    return called


def a_version(
    client: MlflowClient, name: str, *, C: str, packages: str | None, score: float, digest: str = "a", diff: str = ""
) -> None:
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "C", C)
    client.log_param(run_id, "tol", "[bold]0.1[/]")
    client.log_metric(run_id, "roc_auc", score)
    client.log_metric(run_id, "evaluated_rows", 100)
    tags = {
        "prefect_mlops.data": f"sha256:{digest * 64}",
        "prefect_mlops.data.rows": "50",
        "prefect_mlops.data.source": json.dumps({"uri": "rows.parquet"}),
        "prefect_mlops.seed": "0",
        "mlflow.source.git.commit": "c" * 40,
        "prefect_mlops.git.dirty": "true" if diff else "false",
        "prefect_mlops.environment.python": "3.11.4",
    }
    for tag, value in tags.items():
        client.set_tag(run_id, tag, value)
    if packages:
        client.log_text(run_id, packages, "lineage/packages.txt")
    if diff:
        client.log_text(run_id, diff, "lineage/uncommitted.diff")
    passed = score < 0.72
    gate = Check(name="minimum score", passed=passed, subject="roc_auc", observed=f"{score} (95 % from 0.6 to 0.8)")
    client.log_text(run_id, Report(kind="gate", subject=name, checks=(gate,)).model_dump_json(), "reports/gate.json")
    client.create_model_version(name, source=f"file:///nowhere/{run_id}", run_id=run_id)


def test_what_differs_is_shown_and_what_is_equal_counted(call: Call) -> None:
    done = call("shop/1", "shop/2")
    assert (done.code, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "DATA shop v1 shop v2" in lines
    assert f"training rows sha256:{'a' * 16} sha256:{'b' * 16}" in lines
    assert "tracked files differed no yes" in lines
    assert "what was not committed - x.py (+1 -1 lines)" in lines
    assert "numpy 2.4 2.5" in lines
    assert "C 1.0 0.5" in lines
    assert "roc_auc 0.7000 0.7500 +0.0500" in lines
    assert "answer passed failed" in lines
    assert "decided promoted refused" in lines
    assert "by ada person" in lines
    assert lines[-1] == ("Equal: 2 of data, 1 of code, 1 of environment, 1 of packages, 2 of parameters, 1 of scores.")
    assert "pandas" not in done.out


def test_cells_are_no_markup_and_the_rest_is_json(call: Call) -> None:
    told = json.loads(call("shop/1", "shop/2", "--json").out)
    found = {(one["section"], one["name"]): one for one in told["differences"]}
    assert found["scores", "roc_auc"]["change"] == pytest.approx(0.05)
    assert found["code", "what was not committed"]["second"] == DIFF
    assert found["gates", "roc_auc: minimum score"]["first"] == "passed, saw 0.7 (95 % from 0.6 to 0.8)"
    assert told["equal"]["packages"] == 1


def test_a_version_and_its_alias_are_the_same(call: Call) -> None:
    done = call("shop/1", "shop@champion")
    assert done.out.splitlines()[0] == "shop v1 and shop v1 differ in nothing that is known."


def test_two_models_are_compared_and_what_one_did_not_keep_is_said(call: Call) -> None:
    lines = [" ".join(line.split()) for line in call("shop/1", "other/1").out.splitlines()]
    assert "PACKAGES shop v1 other v1" in lines
    assert "all 2 known not known" in lines
    assert lines[lines.index("DECISION shop v1 other v1") + 1] == "all 2 known not known"


def test_wrong_requests_say_what_would_be_right(call: Call) -> None:
    done = call("shop/1", "shpo/2")
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'shop'?" in done.err
    assert "shop has no version 7" in call("shop/1", "shop/7").err
