"""The files of the chaos test: good and bad ones, and what has to become of each."""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ODD_NAMES = ("with space", 'it\'s "quoted"', "two\nlines", "mü-日本-🙂", "-rf *", "%s {x} $HOME", "<b>bold", "a@3")
ROWS = 20
PAUSE_SECONDS = 0.4  # of a slow writer, below the dataset's settle_seconds


@dataclass
class Expected:
    """What has to become of the files.

    Attributes:
        contents: good content by digest: rows to be committed and rows to be refused.
        paths: every file by name, with the digests it has had.
        dropped: how many files of each kind.
    """

    contents: dict[str, tuple[int, int]] = field(default_factory=dict)
    paths: dict[str, list[str]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Rows of the distinct good content."""
        return sum(good for good, _ in self.contents.values())

    @property
    def refused(self) -> int:
        """Bad rows of content that is taken otherwise."""
        return sum(bad for _, bad in self.contents.values())


class Dropper:
    """Somebody who delivers files, careless in every way; the same seed delivers the same."""

    def __init__(self, landing: Path, seed: int) -> None:
        self.landing = landing
        self.expected = Expected()
        self._random = random.Random(seed)  # noqa: S311 - variety, not secrecy
        self._number = 0
        self._writers: list[threading.Thread] = []

    def drop(self, *, known: list[str]) -> str:
        """Deliver one file and return its kind; ``known`` are paths that may be replaced: their content has arrived."""
        kinds = ["new", "new", "partly", "odd", "slow", "duplicate", "copy", "changed", "truncated", "damaged", "empty"]
        kind = self._random.choice(kinds if known else kinds[:5] + kinds[8:])
        getattr(self, f"_{kind}")(known)
        self.expected.dropped[kind] += 1
        return kind

    def finish(self) -> None:
        """Wait for slow writers."""
        for writer in self._writers:
            writer.join()

    def _new(self, _known: list[str]) -> None:
        self._good(f"{self._next()}.csv", self._content())

    def _odd(self, _known: list[str]) -> None:
        self._good(f"{self._random.choice(ODD_NAMES)} {self._next()}.csv", self._content())

    def _partly(self, _known: list[str]) -> None:
        self._good(f"{self._next()}.csv", self._content(bad=1), bad=1)

    def _slow(self, _known: list[str]) -> None:
        content = self._content()
        name = f"slow {self._next()}.csv"
        self._expect(name, content, bad=0)
        path = self.landing / name

        def write() -> None:
            half = len(content) // 2
            with path.open("wb", buffering=0) as file:
                for part in (content[:half], content[half:]):
                    file.write(part)
                    time.sleep(PAUSE_SECONDS)

        writer = threading.Thread(target=write)
        writer.start()
        self._writers.append(writer)

    def _duplicate(self, known: list[str]) -> None:
        path = self.landing / self._random.choice(known)
        path.write_bytes(path.read_bytes())

    def _copy(self, known: list[str]) -> None:
        name = f"copy {self._next()}.csv"
        content = (self.landing / self._random.choice(known)).read_bytes()
        self.expected.paths.setdefault(name, []).append(digest(content))
        self._write(name, content)

    def _changed(self, known: list[str]) -> None:
        self._good(self._random.choice(known), self._content())

    def _truncated(self, _known: list[str]) -> None:
        whole = gzip.compress(self._content())
        self._bad(f"{self._next()}.csv.gz", whole[: len(whole) // 2])

    def _damaged(self, _known: list[str]) -> None:
        bad = {".parquet": b"PAR1 nothing", ".csv": b"other,columns\n1,2\n", ".txt": b"dear all\n", ".jsonl": b"{"}
        suffix, content = self._random.choice(sorted(bad.items()))
        self._bad(f"{self._next()}{suffix}", content + str(self._number).encode())

    def _empty(self, _known: list[str]) -> None:
        self._bad(f"{self._next()}.csv", b"")

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _content(self, *, bad: int = 0) -> bytes:
        number = self._next()
        values = [self._random.uniform(-5, 5) for _ in range(ROWS)]
        lines = [
            f"{number * 1000 + place},{x!r},{int(x + self._random.gauss(0, 1) > 0)}" for place, x in enumerate(values)
        ]
        lines += [f"{number * 1000 + 900 + place},999.0,0" for place in range(bad)]
        return ("id,x,y\n" + "\n".join(lines) + "\n").encode()

    def _good(self, name: str, content: bytes, *, bad: int = 0) -> None:
        self._expect(name, content, bad=bad)
        self._write(name, content)

    def _expect(self, name: str, content: bytes, *, bad: int) -> None:
        self.expected.contents[digest(content)] = (ROWS, bad)
        self.expected.paths.setdefault(name, []).append(digest(content))

    def _bad(self, name: str, content: bytes) -> None:
        self.expected.paths.setdefault(name, []).append(digest(content))
        self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        (self.landing / name).write_bytes(content)


def digest(content: bytes) -> str:
    """Digest content as the ledger does."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
