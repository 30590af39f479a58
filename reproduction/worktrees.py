"""The code of a commit in a folder of its own, beside the checkout a person works in, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect_mlops.core.text import one_line

MAX_DIFF_SHOWN = 100  # characters of a diff that was not kept
CHECKOUT_SECONDS = 600  # a large repository on a network disk takes minutes
_PRESENT = ", so the code is what is in the folder now"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # comes from a tag: anything else could be an option to git


@dataclass(frozen=True)
class Checkout:
    """Where the code is that a run had, as far as it could be brought back.

    Attributes:
        folder: folder of the project in it; the present one where the commit could not be brought back.
        root: folder of the worktree; None where there is none.
        top: folder of the repository.
        library: folder to put first on ``PYTHONPATH``, where prefect-mlops itself is part of the repository.
        problem: what is not as it was, in a sentence; empty when everything is.
        lost: the commit itself could not be brought back, so that nothing is known about the code.
    """

    folder: Path
    root: Path | None = None
    top: Path | None = None
    library: Path | None = None
    problem: str = ""
    lost: bool = False


class _GitError(Exception):
    """Git refused; the message is its own."""


@contextmanager
def checked_out(project: Path, commit: str | None, diff: str = "", *, keep: bool = False) -> Iterator[Checkout]:
    """Check out a commit beside the repository, with what was not committed, for as long as the block lasts.

    The repository's branches, index and files stay as they are. Its hooks are not run.

    Args:
        project: folder of the project in its repository.
        commit: full hash; None where none is known.
        diff: what differed from the commit, as `core.lineage.environment.code_state` keeps it. Git refuses a
            diff that leads out of the worktree.
        keep: leave the worktree where it is.

    Yields:
        Where the code is; the present folder where the commit could not be brought back.
    """
    project = project.absolute()
    top, problem = _repository(project, commit)
    if top is None or commit is None:
        yield Checkout(project, problem=f"{problem}{_PRESENT}", lost=True)
        return
    scratch = Path(tempfile.mkdtemp(prefix="prefect-mlops-commit-")).resolve()
    root = scratch / "worktree"
    try:
        try:
            _git(top, "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", str(root), commit)
        except _GitError as error:
            yield Checkout(
                project, problem=f"commit {commit[:10]} cannot be checked out ({error}){_PRESENT}", lost=True
            )
            return
        inside = root / project.resolve().relative_to(top)
        if not inside.is_dir():
            problem = f"commit {commit[:10]} has no folder {inside.relative_to(root)}{_PRESENT}"
            yield Checkout(project, root, top, problem=problem, lost=True)
            return
        yield Checkout(inside, root, top, _library(top, root, scratch), _apply(root, diff))
    finally:
        if not keep:
            _remove(top, root, scratch)


def _repository(project: Path, commit: str | None) -> tuple[Path | None, str]:
    """Find the repository that has the commit, or say why there is none."""
    if commit is None:
        return None, "the version does not say which commit made it"
    if not _COMMIT.fullmatch(commit):
        return None, f"{commit!r:.60} is no commit"
    try:
        top = Path(_git(project, "rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    except _GitError as error:
        return None, f"git finds no repository at {project} ({error})"
    try:
        _git(top, "cat-file", "-e", f"{commit}^{{commit}}")
    except _GitError:
        return None, f"commit {commit[:10]} is not in the repository {top} (fetch it, if it is elsewhere)"
    return top, ""


def _apply(root: Path, diff: str) -> str:
    """Bring back what was not committed; git applies all of a diff or nothing."""
    if not diff:
        return ""
    if not diff.startswith("diff --git "):
        return f"what was not committed was not kept ({one_line(diff, MAX_DIFF_SHOWN)})"
    try:
        _git(root, "apply", "--whitespace=nowarn", "-", text=diff)
    except _GitError as error:
        return f"what was not committed could not be applied ({error})"
    return ""


def _library(top: Path, root: Path, scratch: Path) -> Path | None:
    """Let the commit's own prefect-mlops be imported, where the one in use is a part of this repository.

    Its rooms are folders there, and become one package by being found under that name.
    """
    import prefect_mlops.core

    rooms = Path(prefect_mlops.core.__path__[0]).resolve().parent
    if not rooms.is_relative_to(top) or not (root / rooms.relative_to(top) / "core" / "__init__.py").is_file():
        return None
    library = scratch / "library"
    library.mkdir()
    (library / "prefect_mlops").symlink_to(root / rooms.relative_to(top))
    return library


def _remove(top: Path, root: Path, scratch: Path) -> None:
    """Remove the worktree, and what the repository knows of it."""
    try:
        _git(top, "worktree", "remove", "--force", "--force", str(root))
    except _GitError:
        shutil.rmtree(root, ignore_errors=True)
        with contextlib.suppress(_GitError):  # it never came to be
            _git(top, "worktree", "remove", "--force", "--force", str(root))  # git forgets one whose folder is gone
    shutil.rmtree(scratch, ignore_errors=True)


def _git(folder: Path, *arguments: str, text: str | None = None) -> str:
    program = shutil.which("git")
    if program is None:
        raise _GitError("git is not installed")
    try:
        done = subprocess.run(  # noqa: S603 - no shell; commits are checked, diffs go to stdin
            [program, *arguments],
            cwd=folder,
            input=None if text is None else text.encode(),
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            timeout=CHECKOUT_SECONDS,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _GitError(str(error)) from error
    if done.returncode:
        seen = done.stderr.decode(errors="replace").strip()
        raise _GitError(one_line(seen.removeprefix("fatal: ").removeprefix("error: ")))
    return done.stdout.decode(errors="replace")
