from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from great_expectations import expectations as gxe

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.lake.commits import open_table
from prefect_mlops.core.lineage.environment import CodeState
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.history import Entry, read_history, record
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.core.values import Decision
from prefect_mlops.flows.run_fingerprint import RunFingerprint, decided_before, fingerprint_of, noted

CODE = CodeState(commit="a" * 40)


def write(rows: int) -> None:
    write_deltalake(table_uri("datasets", "shop"), pa.table({"price": list(range(rows))}), mode="append")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The spec of a shop whose dataset has one version."""
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_MLOPS_LAKE", raising=False)
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import shop

    write(3)
    return shop.model


def name(spec, data: str = "", code: CodeState = CODE) -> str:
    known = fingerprint_of(spec, data, code)
    assert known is not None
    return known.name


def test_the_same_version_spec_and_code_have_the_same_name(spec) -> None:
    version = open_table(table_uri("datasets", "shop")).version()
    assert fingerprint_of(spec, "", CODE) == fingerprint_of(spec, f"@{version}", CODE)
    assert fingerprint_of(spec, "", CODE).version == version


def test_new_rows_have_another_name_and_the_version_before_keeps_its_own(spec) -> None:
    before = name(spec)
    version = open_table(table_uri("datasets", "shop")).version()
    write(1)
    assert name(spec) != before
    assert name(spec, f"@{version}") == before


def test_a_table_that_was_made_anew_has_another_name_at_the_same_version(spec) -> None:
    before = fingerprint_of(spec, "", CODE)
    shutil.rmtree(table_uri("datasets", "shop"))
    write(3)
    after = fingerprint_of(spec, "", CODE)
    assert (after.version, after.name == before.name) == (before.version, False)


def test_another_commit_difference_recipe_or_suite_is_another_training(spec) -> None:
    suite = spec.suite.__class__(name="other", expectations=[gxe.ExpectColumnValuesToNotBeNull(column="price")])
    names = [
        name(spec),
        name(spec, code=CodeState(commit="b" * 40)),
        name(spec, code=CodeState(commit="a" * 40, dirty=True, diff="diff --git a/shop.py")),
        name(dataclasses.replace(spec, seed=1)),
        name(dataclasses.replace(spec, suite=suite)),
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "code", [CodeState(), CodeState(commit="a" * 40, dirty=True, diff="diff of 2000000 bytes, too large to keep\n")]
)
def test_code_that_is_not_all_known_promises_nothing(spec, code: CodeState) -> None:
    assert fingerprint_of(spec, "", code) is None


@pytest.mark.parametrize("data", ["other.parquet", "s3://bucket/shop", "@x", "@99", "@-1"])
def test_only_versions_of_the_dataset_that_are_there_have_a_name(spec, data: str) -> None:
    assert fingerprint_of(spec, data, CODE) is None


def test_a_dataset_that_is_a_file_or_has_not_arrived_has_no_name(spec, tmp_path: Path) -> None:
    pd.DataFrame({"price": [1]}).to_csv(tmp_path / "shop.csv")
    assert fingerprint_of(dataclasses.replace(spec, dataset=str(tmp_path / "shop.csv")), "", CODE) is None
    assert fingerprint_of(dataclasses.replace(spec, dataset="nothing"), "", CODE) is None


def decide(recipe: str, known: RunFingerprint | None, *, kind: str = "refused") -> None:
    details = noted(known, recipe=recipe, training="sha256:training")
    lease = lock.take("shop", Retrain(), details=details).lock
    if kind == "failed":
        lock.give_up(lease, "killed")
    else:
        made = Decision(model="shop", decision="refused", reason="worse", metrics={}, rows=1, data_digest=None)
        decided = {"decision": made.model_dump(mode="json")}
        record(Entry(model="shop", kind=kind, version=1, recipe=recipe, details=decided))


def test_a_decision_is_found_by_the_name_its_training_was_known_by(spec) -> None:
    known = fingerprint_of(spec, "", CODE)
    assert decided_before(read_history("shop"), known) is None
    decide("sha256:rows", known)
    assert decided_before(read_history("shop"), known).kind == "refused"
    write(1)
    assert decided_before(read_history("shop"), fingerprint_of(spec, "", CODE)) is None


def test_a_training_that_failed_or_noted_no_name_is_not_taken_for_decided(spec) -> None:
    known = fingerprint_of(spec, "", CODE)
    decide("sha256:rows", known, kind="failed")
    decide("sha256:rows-of-another", None)
    assert decided_before(read_history("shop"), known) is None
