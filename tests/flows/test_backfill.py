from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from prefect_mlops.core.errors import ConfigError, ConflictError
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.flows import backfill as backfill_module
from prefect_mlops.flows.backfill import backfill
from prefect_mlops.flows.train import train
from prefect_mlops.tasks import ingest_files


@pytest.fixture
def shop(prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A shop to which three days have come, one after the other. Returns the module of its specs."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import shop

    (tmp_path / "landing").mkdir()
    for day in (1, 2, 3):
        shop.sales(day).to_csv(tmp_path / "landing" / f"{day}.csv", index=False)
        (arrival,) = ingest_files.fn([f"{day}.csv"], dataset=shop.sales_files).arrivals
        assert arrival.version == day
    return shop


def told(lines) -> list[tuple]:
    return [(line.data, line.state, line.version, line.again) for line in lines]


def registered() -> list[int]:
    return sorted(int(one.version) for one in MlflowClient().search_model_versions("name = 'shop'"))


def champion() -> int | None:
    models = MlflowClient().search_registered_models()
    return next((int(model.aliases["champion"]) for model in models if "champion" in model.aliases), None)


def artifacts() -> list:
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(any_=["backfill-shop.model"]))
        run = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return made[::-1]


def test_every_version_is_trained_in_order_and_the_champion_left_alone(shop) -> None:
    train("shop.model", data="@1")
    lines = backfill("shop.model", start="@2")
    assert told(lines) == [(2, "passed", 2, False), (3, "passed", 3, False)]
    assert champion() == 1
    assert all(0.5 < line.metrics["roc_auc"] < 1 for line in lines)
    assert lines[0].rows < lines[1].rows
    first, second = (MlflowClient().get_model_version("shop", number) for number in ("2", "3"))
    assert "not worse than the champion" not in lines[0].reason, "nothing was there before it in the backfill"
    assert "not worse than the champion" in lines[1].reason, "judged against the version before"
    tags = [MlflowClient().get_run(one.run_id).data.tags["prefect_mlops.backfill"] for one in (first, second)]
    assert tags == ["@2", "@3"]
    kinds = [entry.kind for entry in read_history("shop")]
    assert kinds == ["leased", "promoted", "released", "backfilled", "backfilled"]

    verdict, table = artifacts()
    shown = re.sub(r"\\(.)", r"\1", verdict.data)
    assert shown.startswith("# shop: 2 passed")
    assert f"@3 v3 passed: roc_auc {lines[1].metrics['roc_auc']:.4f}" in shown
    assert table.key == "backfill-shop"
    assert table.data.splitlines()[0] == "| Data | Committed | State | Version | Rows | roc_auc | Why |"
    assert len(table.data.splitlines()) == 4


def test_a_backfilled_version_is_no_decision(shop) -> None:
    backfill("shop.model", start="@3")
    decision = train("shop.model", data="@3")
    assert (decision.decision, decision.again, decision.version) == ("promoted", False, 2)


def test_it_goes_on_where_it_was_stopped(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backfill_module.backfill_version

    def stopped(model: str, data: int):
        if data == 2:
            raise KeyboardInterrupt
        return real(model, data)

    monkeypatch.setattr(backfill_module, "backfill_version", stopped)
    with pytest.raises(KeyboardInterrupt):
        backfill("shop.model")
    monkeypatch.setattr(backfill_module, "backfill_version", real)
    assert told(backfill("shop.model")) == [(1, "passed", 1, True), (2, "passed", 2, False), (3, "passed", 3, False)]
    assert [line.again for line in backfill("shop.model")] == [True] * 3
    assert registered() == [1, 2, 3]
    shop.other = dataclasses.replace(shop.model, seed=7)
    assert not backfill("shop.other", end="@1")[0].again, "another recipe is another question"


def test_a_dry_run_says_what_would_be_trained(shop) -> None:
    backfill("shop.model", end="@1")
    lines = backfill("shop.model", dry_run=True)
    assert told(lines) == [(1, "passed", 1, True), (2, "planned", None, False), (3, "planned", None, False)]
    assert lines[1].reason == "400 rows came with it"
    assert registered() == [1]


@pytest.mark.slow
def test_promote_lets_whoever_passes_become_champion(shop) -> None:
    backfill("shop.model", end="@1")
    lines = backfill("shop.model", promote=True)
    assert told(lines) == [(1, "promoted", 2, False), (2, "promoted", 3, False), (3, "promoted", 4, False)]
    assert champion() == 4
    assert [line.again for line in backfill("shop.model", promote=True)] == [True] * 3
    history = read_history("shop")
    assert [entry.replaced for entry in history if entry.kind == "promoted"] == [None, 2, 3]


def test_promote_waits_for_no_other_training(shop) -> None:
    lock.take("shop", Retrain(), flow_run="other")
    with pytest.raises(ConflictError, match="data @1: busy: flow run other"):
        backfill("shop.model", promote=True)
    assert told(backfill("shop.model", end="@1")) == [(1, "passed", 1, False)], "without it, nobody is in the way"


def test_data_the_suite_refuses_stops_only_its_own_version(shop) -> None:
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as gxe

    many = gxe.ExpectTableRowCountToBeBetween(min_value=800)
    shop.strict = dataclasses.replace(shop.model, suite=ExpectationSuite(name="strict", expectations=[many]))
    lines = backfill("shop.strict")
    assert told(lines) == [(1, "failed", None, False), (2, "passed", 1, False), (3, "passed", 2, False)]
    assert "saw 400" in lines[0].reason
    assert not backfill("shop.strict", end="@1", dry_run=True)[0].again, "a mended suite gives it another chance"


def test_wrong_requests(shop, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is an address, which keeps no data versions"):
        backfill("shop.from_a_file")
    shutil.rmtree(tmp_path / ".prefect-mlops" / "lake")
    with pytest.raises(ConfigError, match="nothing has arrived in dataset 'shop' yet"):
        backfill("shop.model")


def test_parameters_make_a_good_form() -> None:
    form = backfill.parameters.model_dump()["properties"]
    assert [field["title"] for field in form.values()] == ["Model", "From", "To", "Promote", "Dry run"]
    assert all(field.get("description") for field in form.values())
    assert backfill.parameters.required == ["model"]
    assert [field.get("default") for field in form.values()] == [None, "", "", False, False]
