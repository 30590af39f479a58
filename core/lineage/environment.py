"""The code, environment and machine a model was trained with."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

from prefect_mlops.core.settings import Settings
from prefect_mlops.core.values import Value

if sys.version_info >= (3, 11):
    from importlib.metadata import packages_distributions
else:  # 3.10's own knows only wheels with a top_level.txt: not scikit-learn, skops, numpy, pandas or scipy
    from importlib_metadata import packages_distributions

GIT_TIMEOUT_S = 10  # a repository on a slow network disk answers in seconds; longer means it hangs
MAX_DIFF_BYTES = 1_000_000  # a larger diff is a data file in the tree; its size is kept instead
# Nearly the start of the process: this module is imported before those of the project that uses it.
_began = {"at": time.time()}
_TOO_LARGE = "diff of "  # and its size; a diff itself begins with "diff --git"
MAX_FILES = 2000  # of a project's code in one command line
# `git apply` takes the diff independently of the user's git settings, and binary files are included.
_DIFF_OPTIONS = (
    *("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--binary"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
_STATUS = ("--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--no-renames")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CodeState(Value):
    """The state of the git checkout a run started in.

    Attributes:
        commit: full hash, or None where there is no repository.
        dirty: whether tracked files differ from the commit.
        diff: what differs, as text; empty when clean, a sentence when larger than `MAX_DIFF_BYTES`.
    """

    commit: str | None = None
    dirty: bool = False
    diff: str = ""

    @property
    def complete(self) -> bool:
        """Whether commit and diff describe all tracked files."""
        return self.commit is not None and not self.diff.startswith(_TOO_LARGE)


def code_state(folder: Path | None = None) -> CodeState:
    """Read commit and uncommitted changes of the checkout at ``folder`` (default: the current folder)."""
    where = folder or Path.cwd()
    status = _git(where, *_STATUS) or ""
    commit = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", status, re.MULTILINE)
    if commit is None:  # no repository, or one without a commit
        return CodeState()
    changed = any(not line.startswith("#") for line in status.splitlines())
    diff = (_git(where, "diff", *_DIFF_OPTIONS, "HEAD") or "") if changed else ""
    if len(diff) > MAX_DIFF_BYTES:
        return CodeState(commit=commit[1], dirty=True, diff=f"{_TOO_LARGE}{len(diff)} bytes, too large to keep\n")
    return CodeState(commit=commit[1], dirty=bool(diff), diff=diff)


def covers_loaded_code(folder: Path | None = None) -> bool:
    """Check whether commit and diff of a checkout describe all loaded modules of a project.

    Not counted are the standard library, what is installed, which `installed_packages` names, this library, and the
    program itself. A file that was changed after this process began makes the answer False: an older one
    may have been loaded.

    Args:
        folder: of the checkout; the current one by default.
    """
    places = sysconfig.get_paths()
    installed = tuple(f"{places[name]}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    files = {
        file
        for name, module in list(sys.modules.items())
        if isinstance(file := getattr(module, "__file__", None), str)
        and name not in ("__main__", "__mp_main__")  # the second is the first, as child processes know it
        and not name.startswith("prefect_mlops.")
        and not file.startswith(installed)
    }
    if len(files) > MAX_FILES or any(_newer_than_this_process(file) for file in files):
        return False
    return _git(folder or Path.cwd(), "ls-files", "--error-unmatch", "--", *sorted(files)) is not None


def begin_anew() -> None:
    """Count as a process that begins now: for a fork of one that loaded nothing that has changed since."""
    _began["at"] = time.time()


def _newer_than_this_process(file: str) -> bool:
    """Whether a file changed after this process began, so that the loaded code may be older."""
    try:
        return Path(file).stat().st_mtime > _began["at"]
    except OSError:
        return True


def _git(folder: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [program, *arguments], cwd=folder, capture_output=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def lock_digest() -> str | None:
    """Digest the site's lock file: the set one, else ``requirements.lock`` or ``uv.lock`` in the current folder."""
    chosen = Settings().lock_file
    candidates = [chosen] if chosen else [Path("requirements.lock"), Path("uv.lock")]
    for path in candidates:
        if path.is_file():
            return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def environment() -> dict[str, str]:
    """Describe what results can depend on besides code and packages: Python, platform, processor, threads.

    Returns:
        Text by name. ``blas_threads`` and ``openmp_threads`` are what the libraries loaded in this process will use;
        they are left out where none is loaded.

    Source: threadpoolctl for the thread counts.
    """
    described = {"python": platform.python_version(), "platform": platform.platform(), "cpus": str(os.cpu_count())}
    described["cpu"] = _processor()
    described.update(_thread_counts())
    described.update({name.lower(): os.environ[name] for name in _THREAD_VARIABLES if name in os.environ})
    return described


def _thread_counts() -> dict[str, str]:
    """Read the thread counts of the loaded libraries, which may differ from the environment variables."""
    from threadpoolctl import threadpool_info

    counts: dict[str, int] = {}
    for library in threadpool_info():
        name = f"{library['user_api']}_threads"
        counts[name] = max(counts.get(name, 0), int(library["num_threads"]))
    return {name: str(count) for name, count in sorted(counts.items())}


@functools.cache
def _processor() -> str:
    """Name the processor's model; Linux says it in a file only, some of them by nothing but the architecture."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def installed_packages() -> list[str]:
    """List what is installed in this environment.

    Returns:
        ``name==version`` of every distribution that Python finds, sorted without regard to case.
    """
    return sorted(_installed(_folders()), key=str.lower)


def pinned_requirements(modules: set[str]) -> list[str]:
    """Pin the installed distributions that provide top-level modules.

    Args:
        modules: top-level module names a model is made of, e.g. ``{"sklearn", "lightgbm"}``.

    Returns:
        ``name==version`` for each, sorted; all of those that share a namespace. Modules without a distribution (a
        user's own file) are left out.
    """
    providers = _providers(_folders())
    names = {name for module in modules for name in providers.get(module, ())}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)


def _folders() -> tuple[tuple[str, int], ...]:
    """Return where Python finds packages, with the time of its last change: installing changes the folder.

    Looking through all packages takes half a second, which a process that trains often pays once, and the parent of a
    warm worker's runs for all of them.
    """
    found = []
    for entry in sys.path:
        with contextlib.suppress(OSError):
            changed = Path(entry).stat().st_mtime_ns
            if _holds_packages(entry, changed):
                found.append((entry, changed))
    return tuple(found)


@functools.lru_cache(maxsize=100)
def _holds_packages(entry: str, _changed: int) -> bool:
    """Check whether a folder holds installed packages, not a project: projects come and go on the path."""
    return not Path(entry).is_dir() or any(name.endswith((".dist-info", ".egg-info")) for name in os.listdir(entry))  # noqa: PTH208


@functools.lru_cache(maxsize=1)
def _installed(_where: tuple[tuple[str, int], ...]) -> frozenset[str]:
    found: set[str] = set()
    for dist in importlib.metadata.distributions():
        with contextlib.suppress(FileNotFoundError):  # a broken installation leaves a folder behind with nothing in it
            described = dist.metadata  # read and parsed at each access
            if described["Name"] and described["Version"]:
                found.add(f"{described['Name']}=={described['Version']}")
    return frozenset(found)


@functools.lru_cache(maxsize=1)
def _providers(_where: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:
    return packages_distributions()
