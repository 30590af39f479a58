"""The code of a commit, beside a checkout that stays as it is, in real git repositories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_mlops.core.lineage.environment import code_state
from prefect_mlops.reproduction.worktrees import checked_out

OUTSIDE = """diff --git a/../../escaped.txt b/../../escaped.txt
new file mode 100644
--- /dev/null
+++ b/../../escaped.txt
@@ -0,0 +1 @@
+out
"""
THROUGH_A_LINK = """diff --git a/link b/link
new file mode 120000
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+{target}
\\ No newline at end of file
diff --git a/link/escaped.txt b/link/escaped.txt
new file mode 100644
--- /dev/null
+++ b/link/escaped.txt
@@ -0,0 +1 @@
+out
"""


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a project in a folder of it, committed; temporary folders go where the test can see them."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    folder = tmp_path / "repository"
    (folder / "project").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "project" / "shop.py").write_text("SEED = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def is_clean(repository: Path) -> bool:
    left = list((repository.parent / "temporary").iterdir())
    return not left and len(git(repository, "worktree", "list").splitlines()) == 1


def test_the_commit_is_there_whatever_came_after_it_and_gone_afterwards(repository: Path) -> None:
    project = repository / "project"
    first = code_state(project)
    (project / "shop.py").write_text("SEED = 2\n")
    git(repository, "commit", "-qam", "second")
    (project / "shop.py").write_text("SEED = 3\n")
    before = git(repository, "status", "--porcelain", "-b")
    with checked_out(project, first.commit) as checkout:
        assert (checkout.folder / "shop.py").read_text() == "SEED = 1\n"
        assert checkout.folder == checkout.root / "project"
        assert (checkout.problem, checkout.lost, checkout.library) == ("", False, None)
    assert is_clean(repository)
    assert git(repository, "status", "--porcelain", "-b") == before
    assert (project / "shop.py").read_text() == "SEED = 3\n"


def test_what_was_not_committed_is_brought_back_binary_files_too(repository: Path) -> None:
    (repository / "project" / "shop.py").write_text("SEED = 5\n")
    (repository / "data.bin").write_bytes(bytes(range(256)))
    git(repository, "add", "data.bin")
    state = code_state(repository / "project")
    with checked_out(repository / "project", state.commit, state.diff) as checkout:
        assert checkout.problem == ""
        assert (checkout.folder / "shop.py").read_text() == "SEED = 5\n"
        assert (checkout.root / "data.bin").read_bytes() == bytes(range(256))


@pytest.mark.parametrize("diff", [OUTSIDE, THROUGH_A_LINK, OUTSIDE.replace("../../escaped.txt", ".git/hooks/x")])
def test_a_diff_that_leads_out_is_refused_as_a_whole(repository: Path, diff: str) -> None:
    target = repository.parent / "target"
    target.mkdir()
    commit = code_state(repository).commit
    with checked_out(repository / "project", commit, diff.replace("{target}", str(target))) as checkout:
        assert "could not be applied" in checkout.problem
        assert not checkout.lost
        assert sorted(path.name for path in checkout.root.iterdir()) == [".git", "project"]
    assert not list(repository.parent.rglob("escaped.txt"))
    assert is_clean(repository)


def test_a_diff_that_does_not_fit_or_was_too_large_is_told(repository: Path) -> None:
    commit = code_state(repository).commit
    for diff, says in [
        ("diff of 2000000 bytes, too large to keep\n", "too large to keep"),
        ("diff --git a/gone b/gone\n--- a/gone\n+++ b/gone\n@@ -1 +1 @@\n-a\n+b\n", "could not be applied"),
        ("it is missing", "was not kept"),
    ]:
        with checked_out(repository / "project", commit, diff) as checkout:
            assert says in checkout.problem
            assert (checkout.folder / "shop.py").read_text() == "SEED = 1\n"


def test_without_the_commit_the_present_folder_is_used_and_said_so(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for folder, commit, says in [
        (repository / "project", "0" * 40, "is not in the repository"),
        (repository / "project", "--upload-pack=touch x", "is no commit"),
        (repository / "project", None, "does not say which commit"),
        (tmp_path / "elsewhere", "0" * 40, "not a git repository"),
    ]:
        with checked_out(folder, commit) as checkout:
            assert says in checkout.problem
            assert (checkout.folder, checkout.root, checkout.lost) == (folder, None, True)
    assert is_clean(repository)


def test_a_project_that_was_not_there_yet(repository: Path) -> None:
    (repository / "later").mkdir()
    with checked_out(repository / "later", code_state(repository).commit) as checkout:
        assert (checkout.folder, checkout.lost) == (repository / "later", True)
        assert "has no folder later" in checkout.problem
    assert is_clean(repository)


def test_the_worktree_is_removed_after_an_error_and_kept_on_request(repository: Path) -> None:
    commit = code_state(repository).commit

    def interrupted() -> None:
        with checked_out(repository, commit) as checkout:
            (checkout.root / "left.txt").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert is_clean(repository)
    with checked_out(repository, commit, keep=True) as checkout:
        pass
    assert (checkout.root / "project" / "shop.py").exists()
    git(repository, "worktree", "remove", str(checkout.root))


def test_hooks_of_the_repository_are_not_run(repository: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {repository.parent / 'ran'}\n")
    hook.chmod(0o755)
    with checked_out(repository, code_state(repository).commit):
        pass
    assert not (repository.parent / "ran").exists()


def test_the_rooms_of_the_commit_are_imported_where_prefect_mlops_is_of_this_repository(repository: Path) -> None:
    """Our own checkout, as a repository of its own: rooms in folders, mapped by an editable install."""
    (repository / "core").mkdir()
    (repository / "core" / "__init__.py").write_text("WHOSE = 'the commit'\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "rooms")
    (repository / "core" / "__init__.py").write_text("WHOSE = 'the present'\n")
    program = (
        "import sys; from pathlib import Path; import prefect_mlops.core; "
        "from prefect_mlops.reproduction import worktrees; "
        f"prefect_mlops.core.__path__ = [{str(repository / 'core')!r}]; "
        "checkout = worktrees.checked_out(Path('.'), sys.argv[1]); here = checkout.__enter__(); "
        "import os, subprocess; code = 'import prefect_mlops.core as c; print(c.WHOSE, c.__file__)'; "
        "said = subprocess.run([sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': str(here.library)}, "
        "capture_output=True, text=True); print(said.stdout, said.stderr, here.root); checkout.__exit__(None, None, None)"
    )
    commit = code_state(repository).commit or ""
    done = subprocess.run([sys.executable, "-c", program, commit], cwd=repository, capture_output=True, text=True)
    assert done.stdout.startswith("the commit "), done.stdout + done.stderr
    assert is_clean(repository)


def test_the_worktree_is_removed_when_the_program_is_told_to_end(repository: Path) -> None:
    commit = code_state(repository).commit
    program = (
        "import time; from pathlib import Path; from prefect_mlops.deployments.local.stack import sigterm_as_exit\n"
        "from prefect_mlops.reproduction.worktrees import checked_out\n"
        f"with sigterm_as_exit(), checked_out(Path('.'), {commit!r}): print('in', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=repository, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"in\n"
    assert not is_clean(repository)
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 128 + signal.SIGTERM
    assert is_clean(repository)
