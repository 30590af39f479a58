from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import sklearn
import sklearn.ensemble  # with the OpenMP library
from threadpoolctl import threadpool_limits

from prefect_mlops.core.lineage import environment as provenance
from prefect_mlops.core.lineage.environment import (
    CodeState,
    code_state,
    covers_loaded_code,
    environment,
    installed_packages,
    lock_digest,
    pinned_requirements,
)


def git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *options, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, as the current folder; nothing above it is searched."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("rows = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert code_state() == CodeState(commit=git(checkout, "rev-parse", "HEAD").strip(), dirty=False, diff="")


def test_a_changed_checkout_keeps_the_difference_and_can_be_rebuilt_from_it(checkout: Path, tmp_path: Path) -> None:
    (checkout / "train.py").write_text("rows = 2\nname = 'ü'\n")
    state = code_state()
    assert state.dirty
    (tmp_path / "kept.diff").write_text(state.diff, encoding="utf-8")
    git(checkout, "checkout", "-q", ".")
    git(checkout, "apply", str(tmp_path / "kept.diff"))
    assert (checkout / "train.py").read_text() == "rows = 2\nname = 'ü'\n"


def test_a_binary_file_can_be_rebuilt_too(checkout: Path, tmp_path: Path) -> None:
    (checkout / "train.py").write_bytes(b"\x00\x01\xff" * 10)
    (tmp_path / "kept.diff").write_text(code_state().diff, encoding="utf-8")
    git(checkout, "checkout", "-q", ".")
    git(checkout, "apply", str(tmp_path / "kept.diff"))
    assert (checkout / "train.py").read_bytes() == b"\x00\x01\xff" * 10


def test_what_is_staged_counts_as_changed(checkout: Path) -> None:
    (checkout / "new.py").write_text("x = 1\n")
    git(checkout, "add", "new.py")
    assert code_state().dirty
    assert "new.py" in code_state().diff


def test_a_folder_inside_the_checkout_has_the_same_state(checkout: Path) -> None:
    (checkout / "deep").mkdir()
    (checkout / "train.py").write_text("rows = 2\n")
    assert code_state(checkout / "deep") == code_state(checkout)


def test_without_a_repository_nothing_is_known(checkout: Path, tmp_path: Path) -> None:
    assert code_state(tmp_path) == CodeState()


def test_a_repository_without_a_commit_is_none(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    assert code_state(tmp_path / "new") == CodeState()


def test_a_folder_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert code_state(tmp_path / "nowhere") == CodeState()


def test_of_a_large_difference_only_the_size_is_kept(checkout: Path) -> None:
    (checkout / "train.py").write_text("x = 1\n" * (provenance.MAX_DIFF_BYTES // 5))
    state = code_state()
    assert state.dirty
    assert state.commit
    assert state.diff.startswith("diff of ")
    assert len(state.diff) < 100


@pytest.mark.parametrize("setting", [("color.ui", "always"), ("diff.external", "false"), ("diff.noprefix", "true")])
def test_what_a_person_likes_of_diffs_does_not_change_what_is_kept(checkout: Path, setting: tuple[str, str]) -> None:
    (checkout / "train.py").write_text("rows = 2\n")
    before = code_state()
    git(checkout, "config", *setting)
    assert code_state() == before


def test_without_git_nothing_is_known(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state() == CodeState()


def test_a_git_that_hangs_is_given_up(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(provenance, "GIT_TIMEOUT_S", 0.2)
    assert code_state() == CodeState()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_the_lock_is_the_one_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_MLOPS_LOCK_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert lock_digest() is None
    Path("uv.lock").write_bytes(b"uv\n")
    assert lock_digest() == sha256(b"uv\n")
    Path("requirements.lock").write_bytes(b"a==1\n")
    assert lock_digest() == sha256(b"a==1\n")


def test_the_lock_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requirements.lock").write_bytes(b"a==1\n")
    Path("site.lock").write_bytes(b"b==2\n")
    monkeypatch.setenv("PREFECT_MLOPS_LOCK_FILE", str(tmp_path / "site.lock"))
    assert lock_digest() == sha256(b"b==2\n")
    monkeypatch.setenv("PREFECT_MLOPS_LOCK_FILE", str(tmp_path / "gone.lock"))
    assert lock_digest() is None, "another lock than the one that was set would be a wrong answer"


def test_the_environment_names_what_results_can_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    seen = environment()
    assert {"python", "platform", "cpus", "cpu", "omp_num_threads"} <= set(seen)
    assert seen["omp_num_threads"] == "2"
    assert "mkl_num_threads" not in seen
    assert all(isinstance(value, str) and value for value in seen.values())


def test_threads_are_those_that_will_run_and_not_those_of_a_variable_set_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    with threadpool_limits(1):
        seen = environment()
    assert (seen["blas_threads"], seen["openmp_threads"], seen["omp_num_threads"]) == ("1", "1", "64")


def test_every_installed_package_is_listed_once_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken-1.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    listed = installed_packages()
    assert f"scikit-learn=={sklearn.__version__}" in listed
    assert any(line.startswith("prefect-mlops==") for line in listed)
    assert listed == sorted(set(listed), key=str.lower)
    assert all(name and version for name, _, version in (line.partition("==") for line in listed))


def test_modules_are_pinned_by_the_distribution_that_brings_them() -> None:
    pinned = pinned_requirements({"sklearn", "yaml", "numpy", "my_own_file", "json"})
    assert pinned == sorted(pinned)
    assert f"scikit-learn=={sklearn.__version__}" in pinned
    assert any(pin.startswith("PyYAML==") for pin in pinned)
    assert len(pinned) == 3
    assert pinned_requirements(set()) == []


def test_a_namespace_shared_by_several_distributions_is_pinned_by_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace such as google is filled by many; the first alone would leave out the one that is needed."""
    monkeypatch.setattr(provenance, "_providers", lambda _where: {"shared": ["numpy", "pandas", "numpy"]})
    assert [pin.partition("==")[0] for pin in pinned_requirements({"shared"})] == ["numpy", "pandas"]


def load(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import a module of a folder, for the length of the test."""
    (folder / f"{name}.py").write_text("rows = 1\n")
    os.utime(folder / f"{name}.py", (1.0, 1.0))  # long before this process began
    found = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def only_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No module of these tests themselves, which no checkout of a test tells of."""
    places = tuple(sysconfig.get_paths().values())
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not file.startswith(places) and not name.startswith("prefect_mlops"):
            monkeypatch.delitem(sys.modules, name)


def test_a_checkout_covers_the_modules_it_tracks(
    checkout: Path, only_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert covers_loaded_code()
    load(checkout, "loaded_from_here", monkeypatch)
    assert not covers_loaded_code()  # git knows nothing of it yet
    git(checkout, "add", "loaded_from_here.py")
    assert covers_loaded_code()
    (checkout / "deep").mkdir()
    assert covers_loaded_code(checkout / "deep")


def test_what_was_edited_while_the_process_ran_is_not_covered(
    checkout: Path, only_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(checkout, "loaded_from_here", monkeypatch)
    git(checkout, "add", "loaded_from_here.py")
    assert covers_loaded_code()
    (checkout / "loaded_from_here.py").write_text("rows = 2\n")
    git(checkout, "add", "loaded_from_here.py")
    assert not covers_loaded_code()
    monkeypatch.setattr(provenance, "_began", dict(provenance._began))
    provenance.begin_anew()  # as a run does that was forked after the edit
    assert covers_loaded_code()


def test_a_module_from_elsewhere_is_covered_by_no_checkout(
    checkout: Path, tmp_path: Path, only_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, "loaded_from_elsewhere", monkeypatch)
    assert not covers_loaded_code()


def test_packages_are_looked_for_again_once_one_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "brand-new==1.0" not in installed_packages()
    (tmp_path / "brand_new-1.0.dist-info").mkdir()
    (tmp_path / "brand_new-1.0.dist-info" / "METADATA").write_text("Name: brand-new\nVersion: 1.0\n")
    (tmp_path / "brand_new-1.0.dist-info" / "top_level.txt").write_text("brand_new\n")
    assert "brand-new==1.0" in installed_packages()
    assert pinned_requirements({"brand_new"}) == ["brand-new==1.0"]
