"""A home in an archive: packing it without a path of the machine it was made on, and unpacking it anywhere."""

from __future__ import annotations

import contextlib
import gzip
import io
import sqlite3
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
ARCHIVE = FOLDER / "home-0.1.tar.gz"
HOME = "/home-of-0.1"  # stands for the home's folder in all of its files, and in what was answered about it
PROJECT = FOLDER / "project"
PROJECT_FILES = ("parcels.py", "prefect.yaml", "requirements.lock")
ZIPPED = (".skops", ".npz")
EPOCH = 1_700_000_000  # of all files in the archive, so that it differs only where their content does


def unpack(home: Path) -> Path:
    """Unpack the stored home into a folder that is not there yet, as if it had been made there."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(home, filter="data")
    replace_paths(home, HOME, str(home))
    return home


def pack(home: Path) -> None:
    """Pack a home whose paths were replaced."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = EPOCH
        return entry

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(home.rglob("*")):
            archive.add(path, str(path.relative_to(home)), recursive=False, filter=plain)
    ARCHIVE.write_bytes(gzip.compress(raw.getvalue(), compresslevel=9, mtime=0))


def replace_paths(home: Path, old: str, new: str) -> None:
    """Write another path in place of the home's, in every file of it that holds one."""
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        if path.suffix == ".db":
            replace_in_database(path, old, new)
        elif path.suffix in ZIPPED:
            _replace_in_zip(path, old.encode(), new.encode())
        elif path.suffix != ".parquet" and old.encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(old.encode(), new.encode()))


def files_with(home: Path, text: str) -> list[str]:
    """List the files that hold a text, also inside of what is compressed."""
    wanted = text.encode()
    found = [path for path in home.rglob("*") if path.is_file() and any(wanted in part for part in _contents(path))]
    return sorted(str(path.relative_to(home)) for path in found)


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if path.suffix in ZIPPED:
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(path).read()
        yield repr((table.schema, table.to_pylist())).encode()


def replace_in_database(path: Path, old: str, new: str) -> None:
    """Write another text in place of one, in every column of every table."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            for column in [row[1] for row in database.execute(f'pragma table_info("{table}")')]:
                database.execute(
                    f'update "{table}" set "{column}" = replace("{column}", ?, ?) '  # noqa: S608 - names of its own
                    f'where typeof("{column}") = \'text\' and instr("{column}", ?)',
                    (old, new, old),
                )
        database.commit()
        database.execute("vacuum")


def _replace_in_zip(path: Path, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = [(entry, archive.read(entry)) for entry in archive.infolist()]
    if not any(old in content for _, content in parts):
        return
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in parts:
            archive.writestr(entry, content.replace(old, new))
