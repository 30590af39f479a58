"""The landing zone, a folder or a bucket: listing files, looking up one, reading one.

Nothing outside of it is read: names and links that lead out are refused. Only regular files are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.tables.errors import brief, masked
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec

CHUNK_BYTES = 1 << 20


class Landed(Value):
    """A file in the landing zone, as it was when it was listed.

    Attributes:
        path: under the landing zone, with forward slashes.
        size: bytes.
        modified: when it last changed, in UTC, where storage reports it.
        stamp: size, times and tags; it changes with the file. Empty where storage reports no tag.
    """

    path: str
    size: int
    modified: datetime
    stamp: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of a landing zone.

    Attributes:
        files: everything that may be read, by name.
        left: a sentence for each skipped entry: what, and why.
    """

    files: tuple[Landed, ...]
    left: tuple[str, ...] = ()


def list_landing(spec: DatasetSpec) -> Listing:
    """List the landing zone of a dataset, without hidden files, markers and manifests.

    Raises:
        ConfigError: there is no such landing zone, or no installed package reads it.
        BackendError: it cannot be listed.
    """
    if not spec.landing and not Path(spec.landing_place).exists():
        return Listing(())  # the default folder, created with the first file
    found = _list_remote(spec) if _remote(spec) else _list_local(Path(spec.landing_place))
    files = tuple(file for file in found.files if not _is_control_file(spec, file.path))
    return Listing(tuple(sorted(files, key=lambda file: file.path)), found.left)


def look(spec: DatasetSpec, path: str) -> Landed:
    """Look up one file.

    Args:
        spec: whose landing zone.
        path: under the landing zone, or an absolute path or URI below it.

    Returns:
        The file as it is now, with its name in the ledger: ``a.csv`` for ``./a.csv``.

    Raises:
        ConfigError: no such file, or a name or link that leads out.
        BackendError: storage failed.
    """
    return _look_remote(spec, path) if _remote(spec) else _look_local(Path(spec.landing_place), path)


@contextmanager
def local_file(spec: DatasetSpec, file: Landed) -> Iterator[Path]:
    """Yield a local file: the file itself, or a temporary copy of an object in a bucket.

    Raises:
        ConfigError: it is gone, or leads out.
        BackendError: storage failed.
    """
    if not _remote(spec):
        yield _inside(Path(spec.landing_place), file.path)[1]
        return
    import fsspec

    with tempfile.TemporaryDirectory() as scratch:
        # Only the suffixes are used: they decide how a table is read.
        copy = Path(scratch) / ("file" + "".join(PurePosixPath(file.path).suffixes[-2:]))
        with _storage(spec):
            filesystem, root = fsspec.url_to_fs(spec.landing_place)
            filesystem.get_file(f"{root.rstrip('/')}/{file.path}", str(copy))
        yield copy


def digest_of(file: Path) -> str:
    """Digest the bytes of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def _is_control_file(spec: DatasetSpec, path: str) -> bool:
    """Whether a file is a marker or a manifest, not data."""
    name = path.rpartition("/")[2]
    before, found, after = spec.marker.partition("{name}")
    is_marker = name.startswith(before) and name.endswith(after) if found else name == spec.marker
    return bool(spec.marker and is_marker) or name == spec.manifest


def _list_local(landing: Path) -> Listing:
    if not landing.is_dir():
        raise ConfigError(f"there is no landing folder {landing}: create it, or fix `landing` of the dataset")
    files, left = [], []
    folders = [landing.resolve()]
    root = folders[0]
    while folders:
        try:
            entries = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name)
        except PermissionError as error:
            left.append(f"{_shown(error.filename, root)} cannot be listed: no permission")
            continue
        except FileNotFoundError:  # deleted meanwhile
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
                continue
            try:
                files.append(_look_local(root, os.path.relpath(entry.path, root)))
            except ConfigError as error:
                left.append(str(error))
    return Listing(tuple(files), tuple(left))


def _look_local(landing: Path, path: str) -> Landed:
    name, file = _inside(landing, path)
    try:
        status = file.stat()
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path!r} in the landing folder {landing}") from None
    except OSError as error:
        raise BackendError(f"{path!r} in the landing folder {landing} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path!r} in the landing folder {landing} is not a regular file: not read")
    # The change time moves with every write and rename. Copying tools set back the modification time, but not this one.
    changed = max(status.st_mtime, status.st_ctime)
    stamp = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return Landed(path=name, size=status.st_size, modified=datetime.fromtimestamp(changed, timezone.utc), stamp=stamp)


def _inside(landing: Path, path: str) -> tuple[str, Path]:
    """Return a file's name under the landing folder, and the file; refuse names and links that lead out of it."""
    if "\x00" in path:
        raise ConfigError(f"{path!r} is no file's name: not read")
    named, root = Path(path), landing.resolve()
    for folder in (landing.absolute(), root):
        if named.is_relative_to(folder):
            named = named.relative_to(folder)
    if named.is_absolute() or ".." in named.parts or named == Path():
        raise ConfigError(f"{path!r} leads out of the landing folder {landing}: not read")
    try:
        file = (root / named).resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise ConfigError(f"{path!r} in the landing folder {landing} cannot be resolved: not read") from error
    if not file.is_relative_to(root):
        raise ConfigError(f"{path!r} leads out of the landing folder {landing}: not read")
    if not path.isascii() and path.encode(errors="replace").decode() != path:
        raise ConfigError(f"the name {path!r} in the landing folder {landing} is not UTF-8: rename the file")
    return named.as_posix(), file


def _shown(path: object, root: Path) -> str:
    return repr(os.path.relpath(str(path), root))


def _remote(spec: DatasetSpec) -> bool:
    return "://" in spec.landing_place


def _list_remote(spec: DatasetSpec) -> Listing:
    import fsspec

    with _storage(spec):
        filesystem, root = fsspec.url_to_fs(spec.landing_place)
        filesystem.invalidate_cache()
        found = filesystem.find(root, detail=True)
    root = root.rstrip("/")
    files = []
    for address, info in found.items():
        path = address.removeprefix(root).lstrip("/")
        if path and not any(part.startswith(".") for part in path.split("/")) and not path.endswith("/"):
            files.append(_landed(path, info))
    return Listing(tuple(files))


def _look_remote(spec: DatasetSpec, path: str) -> Landed:
    import fsspec

    name = path.removeprefix(spec.landing_place).lstrip("/").removeprefix("./")
    if not name or "://" in name or ".." in name.split("/"):
        raise ConfigError(f"{path!r} leads out of the landing place {masked(spec.landing_place)}: not read")
    with _storage(spec):
        filesystem, root = fsspec.url_to_fs(spec.landing_place)
        filesystem.invalidate_cache()
        try:
            info = filesystem.info(f"{root.rstrip('/')}/{name}")
        except FileNotFoundError:
            info = {"type": "missing"}
    if info.get("type") != "file":
        raise ConfigError(f"there is no file {path!r} in the landing place {masked(spec.landing_place)}")
    return _landed(name, info)


def _landed(path: str, info: dict[str, Any]) -> Landed:
    """Convert what a file system reports; each has its own names for the same facts."""
    tags = {key: info[key] for key in ("ETag", "etag", "md5Hash", "content_settings") if info.get(key)}
    times = [info[key] for key in ("LastModified", "last_modified", "mtime", "updated", "modified") if info.get(key)]
    size = int(info.get("size") or 0)
    # Times alone, in whole seconds on many servers, do not identify a content: such files are read again.
    stamp = json.dumps([size, *map(str, tags.values()), *map(str, times)]) if tags else ""
    return Landed(path=path, size=size, modified=_moment(times[0] if times else None), stamp=stamp)


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, timezone.utc)
    if isinstance(value, str):
        try:
            return _moment(datetime.fromisoformat(value.replace("Z", "+00:00")))
        except ValueError:
            pass
    return datetime.now(timezone.utc)  # not reported: the settle time starts now


@contextmanager
def _storage(spec: DatasetSpec) -> Iterator[None]:
    place = masked(spec.landing_place)
    try:
        yield
    except (ImportError, ValueError) as error:  # by fsspec: the scheme is unknown, or its package is missing
        raise ConfigError(f"the landing place {place} cannot be read: {brief(error, place)}") from error
    except FileNotFoundError as error:
        raise ConfigError(f"there is no landing place {place}: check the address") from error
    except Exception as error:
        raise BackendError(f"the landing place {place} cannot be read: {brief(error, place)}") from error
