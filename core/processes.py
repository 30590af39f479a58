"""Child processes that do not outlive their parent, and the loopback ports they listen on."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect_mlops.core.errors import BackendError

Progress = Callable[[str], None]  # called with a sentence about the present step
LOOPBACK = "127.0.0.1"
LINUX: bool = "linux" in {sys.platform}  # spelled so that type checkers check both branches
GRACE_SECONDS = 8.0  # a server with a browser tab on it does not end by itself: streams stay open
TAIL_LINES = 15  # enough for the last exception and what led to it; the whole log is named beside it
PORT_ATTEMPTS = 20  # each was a free port a moment ago

# Run by a Python that becomes the program: asks the Linux kernel for SIGTERM (15) when the parent dies, however it
# dies. PR_SET_PDEATHSIG (1) survives exec; a parent that was gone before the call is seen by its changed id.
_TIED_TO_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Child:
    """A program that was started and writes its output to a log file.

    Attributes:
        name: what it is, in words for messages.
        process: the handle to it; its id is also the id of its session.
        log: file with everything it printed.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def failure(self, what: str) -> BackendError:
        """Build the error, with the end of the log."""
        return BackendError(f"{self.name} {what}; the end of {self.log}:\n{tail(self.log)}")


def start_child(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    folder: Path,
    umask: int = -1,
    keep: Sequence[int] = (),
) -> Child:
    """Start a program in a session of its own, tied to the life of this process where the system can do that.

    On Linux the tie is to the calling *thread*: call from one that lives as long as the child should.

    Args:
        name: what it is, in words for messages.
        command: program (an absolute path) and arguments.
        environment: its whole environment.
        log: file for what it prints; an older one is kept beside it as ``.1``.
        folder: its current folder.
        umask: file mode mask; -1 leaves the caller's.
        keep: file descriptors it inherits, beside its output.

    Returns:
        The running child.
    """
    if log.exists():
        log.replace(log.with_suffix(log.suffix + ".1"))
    tie = (sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid())) if LINUX else ()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - the programs are ours: this Python and its modules
            [*tie, *command],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent only, which stops them in order
            umask=umask,
            pass_fds=keep,
        )
    finally:
        os.close(output)
    return Child(name, process, log)


def stop_children(children: Iterable[Child], *, grace: float = GRACE_SECONDS) -> None:
    """End children and whatever they started, by force where asking does not help within ``grace`` seconds.

    Grandchildren go first: a worker that gets SIGTERM leaves its flow runs alone, which would hang without their
    server; asked while worker and server are there, they end and are reported as crashed instead of running for ever.
    """
    running = [child for child in children if child.alive]
    deadline = time.monotonic() + grace
    _end(descendants(child.process.pid for child in running), deadline=deadline)
    late = descendants(child.process.pid for child in running)
    for child in running:
        child.process.terminate()
    for child in running:
        try:
            child.process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_session(child.process.pid, signal.SIGKILL)
            child.process.wait()
    _end(late, deadline=deadline)


def end_sessions(leaders: Iterable[int], *, grace: float = GRACE_SECONDS) -> None:
    """End what a parent that was killed left running, named by the session ids it wrote down."""
    leaders = list(leaders)
    family = descendants(leaders)
    for leader in leaders:
        _signal_session(leader, signal.SIGTERM)
    _end([*family, *leaders], deadline=time.monotonic() + grace)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Read the last non-empty lines of a log file."""
    text = log.read_text(errors="replace") if log.exists() else ""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:]) or "(it printed nothing)"


def lock_file(path: Path) -> int | None:
    """Take a lock that the system frees when its last holder dies.

    Args:
        path: the lock's file; made where missing, readable by its owner only.

    Returns:
        A file descriptor that holds the lock until it is closed, here and in every child that inherited it;
        None where another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def reserved_port(*preferred: int) -> Iterator[int]:
    """Find a free port on loopback and keep other stacks of this user off it.

    Nothing can reserve a port for a child across programs; between stacks a lock file can, which is the race that
    happens: two started at the same moment, both finding 4200 free, one then taking the other's server for its own.

    Args:
        preferred: ports to try first, in order; after them the system chooses.

    Yields:
        The port.

    Raises:
        BackendError: when no port was free.
    """
    folder = Path(tempfile.gettempdir()) / f"prefect-mlops-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for wanted in (*preferred, *(0 for _ in range(PORT_ATTEMPTS))):
        port = _free_port(wanted)
        lock = lock_file(folder / f"port-{port}.lock") if port else None
        if port and lock is not None:
            try:
                yield port
            finally:
                os.close(lock)
            return
    raise BackendError(f"no free port on {LOOPBACK}: tried {', '.join(map(str, preferred))} and {PORT_ATTEMPTS} others")


def _free_port(wanted: int) -> int | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def descendants(roots: Iterable[int]) -> list[int]:
    """Find children's children; no library, and slim images have no ``ps``, so Linux reads /proc."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    front = list(roots)
    while front:
        front = [child for parent in front for child in children.get(parent, ())]
        found += front
    return found


def _parents() -> Iterator[tuple[int, int]]:
    if LINUX:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()  # the name before it may hold anything
            except OSError:
                continue  # it ended while we looked
            yield int(stat.parent.name), int(fields[1])
        return
    listing = subprocess.run(["/bin/ps", "-Ao", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    for line in listing.splitlines():
        child, parent = line.split()
        yield int(child), int(parent)


def _end(pids: Iterable[int], *, deadline: float) -> None:
    waiting = [pid for pid in pids if _signal(pid, signal.SIGTERM)]
    while waiting and time.monotonic() < deadline:
        time.sleep(0.05)
        waiting = [pid for pid in waiting if runs(pid)]
    for pid in waiting:
        _signal(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Check whether a process runs and is no zombie: in containers process 1 often never reaps those."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if LINUX else ""
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] not in (["Z"], ["X"]) and _signal(pid, 0)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # gone, or its number belongs to another user's process by now
        return False
    return True


def _signal_session(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return


def no_progress(_sentence: str) -> None:
    """Show no progress: the default where a caller does not ask for it."""


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Make SIGTERM unwind the stack as Ctrl-C does, unless the program handles it or this is not its main thread."""

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
