"""What a project's file declares, and how its datasets and models are found by name."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.deployments.project import Declared, declared, resolve_dataset, resolve_model

ROOT = Path(__file__).parents[2]
SPECS = """
import great_expectations as gx
from prefect_mlops.core import DatasetSpec

check = gx.expectations.ExpectTableRowCountToBeBetween(min_value=1)
suite = gx.ExpectationSuite(name="any", expectations=[check])
first = DatasetSpec(name="sales", suite=suite)
second = DatasetSpec(name="returns", suite=suite)
again = DatasetSpec(name="returns", suite=suite)
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module of specs in a project folder; its name is new, as Python imports a name once."""
    name = f"specs_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(SPECS)
    return name


def write(folder: Path, *datasets: str) -> None:
    entries = "".join(f"  - {{name: d{n}, parameters: {{dataset: {dataset}}}}}\n" for n, dataset in enumerate(datasets))
    (folder / "prefect.yaml").write_text(f"deployments:\n{entries}")


def test_our_own_file_declares_the_flights() -> None:
    flights = "prefect_mlops.examples.flights"
    assert declared(ROOT) == Declared((f"{flights}.flights",), (f"{flights}.model",))
    assert resolve_dataset("flights", ROOT)[0] == f"{flights}.flights"
    dotted, model = resolve_model("flights-late", ROOT)
    assert (dotted, model.name) == (f"{flights}.model", "flights-late")


def test_names_come_in_order_and_once(tmp_path: Path) -> None:
    write(tmp_path, "b.b", "a.a", "b.b", '"{{ FROM_ENVIRONMENT }}"', "[1]")
    assert declared(tmp_path).datasets == ("b.b", "a.a")


def test_a_dataset_is_found_by_either_name(tmp_path: Path, module: str) -> None:
    write(tmp_path, f"{module}.first", f"{module}.second")
    dotted, spec = resolve_dataset("returns", tmp_path)
    assert (dotted, spec.name) == (f"{module}.second", "returns")
    assert resolve_dataset(f"{module}.first", tmp_path)[1].name == "sales"


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path: Path, module: str) -> None:
    write(tmp_path, f"{module}.first", f"{module}.second")
    with pytest.raises(ConfigError, match=r"no dataset that prefect\.yaml declares is called 'sale'.*'sales'"):
        resolve_dataset("sale", tmp_path)
    with pytest.raises(ConfigError, match=rf"no DatasetSpec in {module} is called 'frist'.*'first'"):
        resolve_dataset(f"{module}.frist", tmp_path)


def test_two_of_one_name_have_to_be_told_apart(tmp_path: Path, module: str) -> None:
    write(tmp_path, f"{module}.second", f"{module}.again")
    with pytest.raises(ConfigError, match=rf"2 datasets are called 'returns': .*'{module}.second' or '{module}.again'"):
        resolve_dataset("returns", tmp_path)


def test_one_that_cannot_be_imported_hides_no_other(tmp_path: Path, module: str) -> None:
    (tmp_path / f"broken_{module}.py").write_text("1 / 0")
    write(tmp_path, f"broken_{module}.it", f"{module}.first")
    assert resolve_dataset("sales", tmp_path)[0] == f"{module}.first"
    with pytest.raises(ConfigError, match=f"'broken_{module}.it' cannot be imported: ZeroDivisionError"):
        resolve_dataset("it", tmp_path)


def test_without_a_file_only_dotted_names_work(tmp_path: Path, module: str) -> None:
    assert resolve_dataset(f"{module}.first", tmp_path)[1].name == "sales"
    with pytest.raises(
        ConfigError, match=rf"only dotted names can be looked up here, .* no prefect\.yaml in {tmp_path}"
    ):
        resolve_dataset("sales", tmp_path)
