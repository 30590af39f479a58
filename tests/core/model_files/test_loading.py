from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.model_files import loading
from prefect_mlops.core.model_files.loading import files_size, load_model_files

GOOD = {"flavors": {"sklearn": {"pickled_model": "model.skops", "serialization_format": "skops", "code": None}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's files, as MLflow lays them out."""
    folder = tmp_path / "model"
    folder.mkdir()
    skops.io.dump(LogisticRegression(C=0.5).fit([[0], [1]], [0, 1]), folder / "model.skops")
    (folder / "MLmodel").write_text(yaml.safe_dump(GOOD))
    return folder


def refused(folder: Path, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        load_model_files(folder, subject="cancer v3")
    assert str(error.value).startswith("cancer v3 ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def edit(folder: Path, **flavor: object) -> None:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["sklearn"].update(flavor)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def test_a_model_in_skops_format_is_loaded(folder: Path) -> None:
    assert load_model_files(folder, subject="cancer v3").C == 0.5


def test_a_description_of_many_columns_is_read(folder: Path) -> None:
    columns = [{"type": "double", "name": f"column number {place}", "required": True} for place in range(10_000)]
    (folder / "MLmodel").write_text(yaml.safe_dump({**GOOD, "signature": {"inputs": json.dumps(columns)}}))
    assert load_model_files(folder, subject="cancer v3").C == 0.5


MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is not a mapping but nothing"),
        ("just words", "it is not a mapping but 'just words'"),
        ("- a\n- b\n", "it is not a mapping but a list"),
        ("name: model\n", "flavors is not a mapping but nothing"),
        ("flavors: [sklearn]\n", "flavors is not a mapping but a list"),
        ("flavors: {xgboost: {}}\n", "has no sklearn flavor"),
        ("flavors: {sklearn: yes}\n", "flavors.sklearn is not a mapping but 'yes'"),
        ("flavors: {sklearn: {pickled_model: model.pkl}}\n", "stored as 'pickle', which runs code"),
        ("flavors: {sklearn: {serialization_format: [skops]}}\n", "stored as a list, which runs code"),
        ("flavors: {sklearn: {serialization_format: skops}}\n", "does not name its model file"),
        ("flavors: {sklearn: {serialization_format: skops, pickled_model: {a: b}}}\n", "does not name its model file"),
        ("flavors: {sklearn: {serialization_format: skops, pickled_model: ''}}\n", "does not name its model file"),
        ("flavors: {a: [}\n", "has a damaged MLmodel file"),
        ("a: 1\n---\nb: 2\n", "has a damaged MLmodel file"),
        ("? {a: b}\n: c\n", "has a damaged MLmodel file"),
        ("\x00", "has a damaged MLmodel file"),
        ("flavors: !!python/object/apply:os.system ['touch ran']\n", "names a type .*os.system"),
        ("flavors: !!python/name:builtins.exec\n", "names a type .*builtins.exec"),
        (MERGES, "repeats a part by an alias"),
        (LAUGHS, "repeats a part by an alias"),
        ("[" * 100_000, "nested more than 50 deep"),
        ("{a: " * 5000, "nested more than 50 deep"),
    ],
    ids=range(22),
)
def test_a_description_nobody_can_use_is_refused_in_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "MLmodel").write_text(text)
    refused(folder, says)
    assert not (tmp_path / "ran").exists()


def test_dates_and_numbers_without_end_cost_nothing(folder: Path) -> None:
    """YAML's own rules would compute each of these, the last for hours."""
    odd = "a: 2001-99-99\nb: " + "9" * 100_000 + "\nc: " + ":".join(["1"] * 1_000_000) + "\n"
    (folder / "MLmodel").write_text(odd + yaml.safe_dump(GOOD))
    assert load_model_files(folder, subject="cancer v3").C == 0.5


def test_text_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "MLmodel").write_bytes(b"\xff\xfe\x00flavors")
    refused(folder, "has a damaged MLmodel file")


def test_a_huge_description_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "MLmodel").open("r+b") as file:
        file.truncate(50_000_000_000)
    refused(folder, "has 50,000,000,000 bytes, more than 4,000,000")


def test_without_a_description_there_is_no_model(folder: Path) -> None:
    (folder / "MLmodel").unlink()
    refused(folder, "one that is not there: 'MLmodel'")
    (folder / "MLmodel").mkdir()
    refused(folder, "one that is not there: 'MLmodel'")


@pytest.mark.parametrize("name", ["../other.skops", "{tmp}/other.skops", ".", "a\0b", "x" * 5000, "gone.skops", "~"])
def test_a_file_that_is_not_in_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "model.skops").rename(tmp_path / "other.skops")
    edit(folder, pickled_model=name.format(tmp=tmp_path))
    refused(folder, "outside of its own folder or one that is not there")


@pytest.mark.parametrize("name", ["MLmodel", "model.skops"])
def test_a_link_that_leads_outside_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, f"outside of its own folder or one that is not there: '{name}'")
    (folder / name).unlink()
    (folder / name).symlink_to(folder / name)
    refused(folder, "outside of its own folder or one that is not there")


def hostile(path: Path, canary: Path) -> None:
    """Write a skops file that creates a file when it is loaded by somebody who trusts `builtins.exec`."""
    skops.io.dump((f"open({str(canary)!r}, 'w').close()",), path)
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
    wrapped = {"__class__": "exec", "__module__": "builtins", "__loader__": "ConstructorFromReduceNode"}
    wrapped |= {"content": {key: schema[key] for key in schema if key not in {"protocol", "_skops_version"}}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "schema.json",
            json.dumps({**wrapped, "protocol": schema["protocol"], "_skops_version": schema["_skops_version"]}),
        )


def test_a_file_that_vouches_for_exec_is_refused_and_nothing_runs(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    hostile(folder / "model.skops", canary)
    edit(folder, skops_trusted_types=["builtins.exec"])
    refused(folder, "holds types that are not trusted: builtins.exec")
    assert not canary.exists()
    skops.io.load(folder / "model.skops", trusted=["builtins.exec"])
    assert canary.exists(), "the file does what it is said to do, to those who trust it"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(b""),
        lambda path: zipfile.ZipFile(path, "w").close(),
        lambda path: zipfile.ZipFile(path, "w").writestr("schema.json", "[" * 200_000),
        lambda path: zipfile.ZipFile(path, "w").writestr("schema.json", "{}"),
    ],
    ids=["cut", "empty", "no schema", "nested", "no type"],
)
def test_a_damaged_skops_file_is_refused_in_words(folder: Path, damage: object) -> None:
    damage(folder / "model.skops")
    refused(folder, "cannot be loaded from its skops file")


def test_a_flood_of_types_is_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_LISTED", 1)
    skops.io.dump([Counter("ab"), __import__("datetime").timedelta(1)], folder / "model.skops")
    refused(folder, "not trusted: collections.Counter and 1 more")


def test_the_size_counts_every_file_once_and_no_link(folder: Path, tmp_path: Path) -> None:
    before = files_size(folder)
    (folder / "data").mkdir()
    (folder / "data" / "more").write_bytes(b"x" * 1000)
    (tmp_path / "large").write_bytes(b"x" * 5000)
    (folder / "large").symlink_to(tmp_path / "large")
    assert files_size(folder) == before + 1000
