"""What a training reads and how much memory that takes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from pandas.testing import assert_frame_equal
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.addresses import MARKS
from prefect_mlops.core.errors import DataCheckError
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.tables.read import read_table
from prefect_mlops.core.values import Gate, LoadedModel, ModelVersion
from prefect_mlops.flows import training_data
from prefect_mlops.flows.judging import judge_on
from prefect_mlops.flows.run_summary import RunSummary
from prefect_mlops.flows.training_data import TrainingData, prepare_training_data
from prefect_mlops.tasks import train_model

pytestmark = pytest.mark.usefixtures("prefect_api")

FEATURES = ("a", "b")
NEEDED = (*FEATURES, "shop", "day", "returned")


def sales(start: int, rows: int = 3_000) -> pa.Table:
    chance = np.random.default_rng(start)
    columns = {name: chance.normal(size=rows) for name in ("a", "b", "c")}
    columns |= {"shop": np.array(["x", "y"])[chance.integers(0, 2, rows)], "day": np.arange(start, start + rows)}
    columns["returned"] = (columns["a"] + chance.normal(size=rows) > 0).astype("int64")
    columns |= {"note": [f"note {place}" for place in range(rows)]}
    columns |= {MARKS[0]: ["f.csv"] * rows, MARKS[1]: ["d"] * rows, MARKS[2]: np.arange(rows)}
    return pa.table(columns)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A dataset of two files, whose later rows are in the first one read."""
    for start in (0, 3_000):
        write_deltalake(tmp_path / "sales", sales(start), mode="append")
    return f"delta://{tmp_path / 'sales'}"


def spec(lake: str, **changed: object) -> ModelSpec:
    recipe: dict = {
        "name": "sales",
        "dataset": lake,
        "target": "returned",
        "features": FEATURES,
        "order_by": "day",
        "estimator": LogisticRegression(),
        "suite": suite(gxe.ExpectColumnValuesToNotBeNull(column="a")),
        "gates": [Gate("roc_auc", at_least=0.5, may_lose=0.1, slices=("shop",))],
    }
    return ModelSpec(**{**recipe, **changed})


def suite(*expectations: gxe.core.UnexpectedRowsExpectation) -> ExpectationSuite:
    return ExpectationSuite(name="sales", expectations=list(expectations))


def spoil(lake: str, kept: tuple[str, ...]) -> None:
    """Overwrite the values of all other columns on the disk: who reads one of them fails."""
    for uri in DeltaTable(lake.removeprefix("delta://")).file_uris():
        path = Path(uri.removeprefix("file://"))
        found, content = pq.read_metadata(path), bytearray(path.read_bytes())
        for group in range(found.num_row_groups):
            for place in range(found.num_columns):
                column = found.row_group(group).column(place)
                if column.path_in_schema not in kept:
                    start = column.dictionary_page_offset or column.data_page_offset
                    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
        path.write_bytes(content)


def fitted(data: TrainingData) -> object:
    return train_model(LogisticRegression(), data.split.X_train, data.split.y_train)


def test_only_the_columns_of_the_spec_are_read(lake: str) -> None:
    whole = prepare_training_data(spec(lake), "", RunSummary("train", "sales"))
    spoil(lake, NEEDED)
    with pytest.raises(DataCheckError):
        read_table(lake)
    told = RunSummary("train", "sales")
    trial = prepare_training_data(spec(lake), "", told)
    assert set(trial.table) == set(NEEDED)
    assert trial.digest == whole.digest
    assert told.reports[0].passed
    assert len(trial.test_rows) == 1_200
    assert np.shares_memory(trial.split.X_train["a"].to_numpy(), trial.table["a"].to_numpy())


def test_without_features_all_columns_are_read_but_the_marks_of_the_lake(lake: str) -> None:
    spoil(lake, (*NEEDED, "c", "note"))
    trial = prepare_training_data(spec(lake, features=None), "", RunSummary("train", "sales"))
    assert set(trial.split.X_train) == {"a", "b", "c", "shop", "note"}


def test_what_prepare_reads_is_read(lake: str) -> None:
    spoil(lake, ("a", "c", "day", "returned"))
    made = spec(
        lake,
        features=["d"],
        prepare=lambda rows: rows.assign(d=rows["a"] + rows["c"]),
        reads=["a", "c", "day", "returned"],
        gates=[Gate("roc_auc", at_least=0.5)],
    )
    trial = prepare_training_data(made, "", RunSummary("train", "sales"))
    assert set(trial.table) == {"a", "c", "d", "day", "returned"}


def test_a_suite_about_names_needs_no_values(lake: str) -> None:
    names = [*sales(0, 1).drop_columns(list(MARKS)).column_names]
    asks = suite(gxe.ExpectTableColumnsToMatchOrderedList(column_list=names), gxe.ExpectColumnToExist(column="note"))
    spoil(lake, NEEDED)
    told = RunSummary("train", "sales")
    prepare_training_data(spec(lake, suite=asks), "", told)
    assert told.reports[0].passed
    wrong = suite(gxe.ExpectTableColumnsToMatchSet(column_set=[*NEEDED]))
    with pytest.raises(DataCheckError, match="columns"):
        prepare_training_data(spec(lake, suite=wrong), "", told)


@pytest.mark.parametrize("also", [[], [gxe.ExpectColumnToExist(column="c")]], ids=["values", "names too"])
def test_a_suite_about_other_columns_is_asked_about_them_and_they_are_not_kept(lake: str, also: list) -> None:
    spoil(lake, (*NEEDED, "note", "c"))
    told = RunSummary("train", "sales")
    asks = suite(gxe.ExpectColumnValuesToMatchRegex(column="note", regex="^note"), *also)
    trial = prepare_training_data(spec(lake, suite=asks), "", told)
    assert set(trial.table) == set(NEEDED)
    assert (told.reports[0].passed, told.reports[0].rows, told.reports[0].subject) == (True, 6_000, "sales")
    asks = suite(gxe.ExpectColumnValuesToMatchRegex(column="note", regex="1$"), *also)
    with pytest.raises(DataCheckError, match="note"):
        prepare_training_data(spec(lake, suite=asks), "", told)
    asks = suite(gxe.ExpectColumnValuesToNotBeNull(column="notes"), *also)
    with pytest.raises(DataCheckError, match="no column 'notes'; did you mean 'note'"):
        prepare_training_data(spec(lake, suite=asks), "", told)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_files_of_other_kinds_give_the_same_rows(lake: str, tmp_path: Path, kind: str) -> None:
    frame = read_table(lake).drop(columns=list(MARKS))
    path = tmp_path / f"sales.{kind}"
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    asks = suite(gxe.ExpectColumnValuesToNotBeNull(column="note"))
    for asked in (spec(lake).suite, asks):
        mine, theirs = (
            prepare_training_data(spec(source, suite=asked), "", RunSummary("train", "sales"))
            for source in (lake, str(path))
        )
        assert kind == "csv" or mine.digest == theirs.digest  # text loses the last digit
        assert_frame_equal(mine.test_rows[list(NEEDED)], theirs.test_rows[list(NEEDED)])


@pytest.mark.parametrize("reads", [None, ["a", "b", "shop", "day", "returned"]])
def test_a_champion_of_another_recipe_gets_the_columns_it_needs(lake: str, reads: list[str] | None) -> None:
    other = prepare_training_data(spec(lake, features=["c", "a"]), "", RunSummary("train", "sales"))
    champion = LoadedModel(ModelVersion(name="sales", version=1, run_id="r", model_uri="m"), fitted(other))
    prepared = {"prepare": pd.DataFrame.copy, "reads": reads} if reads else {}
    recipe = dataclasses.replace(spec(lake), order_by=None, group_by="day", **prepared)
    trial = prepare_training_data(recipe, "", RunSummary("train", "sales"))
    assert "c" not in trial.table
    ours = fitted(trial)
    seen = judge_on(recipe, trial.test_rows, ours, champion)
    rows = read_table(lake).drop(columns=list(MARKS)).loc[trial.split.X_test.index]
    assert seen.checks == judge_on(recipe, rows, ours, champion).checks
    write_deltalake(lake.removeprefix("delta://"), sales(6_000), mode="append")  # the version that was read stays
    assert seen == judge_on(recipe, trial.test_rows, ours, champion)


def test_rows_are_read_at_the_version_whose_columns_were_looked_at(lake: str) -> None:
    for given, pinned in ((lake, f"{lake}@1"), (f"{lake}@0", f"{lake}@0")):
        source, known = training_data._known(given)
        assert (source, list(known.columns)) == (pinned, [*NEEDED[:2], "c", *NEEDED[2:], "note"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what a process reads")
def test_each_column_is_read_once(tmp_path: Path) -> None:
    rows = 600_000
    table = pa.concat_tables([sales(0, rows)])
    write_deltalake(tmp_path / "large", table)
    (path,) = DeltaTable(tmp_path / "large").file_uris()
    group = pq.read_metadata(path.removeprefix("file://")).row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    needed = sum(column.total_compressed_size for column in columns if column.path_in_schema in NEEDED)
    read_table(tmp_path / "large", columns=["a"])
    before = bytes_read()
    trial = prepare_training_data(spec(f"delta://{tmp_path / 'large'}"), "", RunSummary("train", "sales"))
    assert len(trial.table) == rows
    assert 0.9 * needed < bytes_read() - before < 1.3 * needed


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


PEAK = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from deltalake import write_deltalake
from great_expectations import ExpectationSuite, expectations as gxe
from sklearn.dummy import DummyClassifier
from prefect import flow
from prefect_mlops.core import Gate, ModelSpec
from prefect_mlops.flows.training_run import TrainingRun

X = [f"x{place}" for place in range(20)]

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def trained(uri, by):
    spec = ModelSpec(
        name="m", dataset=uri, target="y", features=X, estimator=DummyClassifier(strategy="prior"),
        suite=ExpectationSuite(name="m", expectations=[gxe.ExpectColumnValuesToNotBeNull(column=x) for x in X]),
        gates=[Gate("accuracy", at_least=0)], metrics=["neg_log_loss"], **by,
    )
    @flow
    def run():
        with TrainingRun(spec, dry_run=True) as run:
            run.load()
            run.train()
            run.judge(against=None)
            run.scores
    run()

for rows, by in ((2_000, {}), (2_000, {"order_by": "t"}), (1_000_000, eval(sys.argv[2]))):
    uri = f"{sys.argv[1]}/{rows}"
    if not Path(uri).exists():
        for start in range(0, rows, 250_000):
            count = min(rows, 250_000)
            chance = np.random.default_rng(start)
            columns = {x: chance.normal(size=count) for x in X} | {"y": chance.integers(0, 2, count)}
            columns |= {"t": np.arange(start, start + count), "other": [f"{start} {n}" for n in range(count)]}
            write_deltalake(uri, pa.table(columns), mode="append")
        del columns
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    trained(uri, by)
    peak = memory("VmHWM") - before
print(peak / (rows * len(X) * 8))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts a peak of memory anew")
@pytest.mark.parametrize("by", [{}, {"order_by": "t"}], ids=["by features", "in time"])
def test_a_million_rows_take_less_than_twice_the_size_of_the_features(tmp_path: Path, by: dict) -> None:
    """Of an estimator that needs nothing itself: read, checked, split, trained, evaluated and judged."""
    from prefect.settings import PREFECT_API_URL

    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-c", PEAK, str(tmp_path), repr(by)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert 1 < float(done.stdout.split()[-1]) < 2
