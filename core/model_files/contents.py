"""Digests of what a skops file holds, independent of its bytes: two dumps of one model differ byte for byte.

A skops file is a zip of a tree in JSON and of arrays. Numbers that name objects in memory, file names, the order of
keys and of sets, and the bytes between the fields of a record change from one dump to the next; what is left is the
model. The file is read as data: nothing is unpickled, imported or built from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.training_data import ATTRIBUTE
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 8_000_000_000  # unpacked; a larger model does not fit beside its copy into most machines
MAX_TREE_BYTES = 300_000_000  # the JSON; a forest of 100 trees has some 3 MB of it
MAX_MEMBERS = 1_000_000  # arrays; a forest of 10,000 trees has some 50,000
READ_FROM = f"{ATTRIBUTE}.source"  # where the training rows were read from: the same rows may have moved
_LEFT_OUT = ("__id__", "is_json", "_skops_version", "__class__", "__module__", "__loader__", "file")


def model_content(file: Path) -> dict[str, str]:
    """Digest everything a skops file holds, part by part.

    Args:
        file: the skops file; may come from anybody.

    Returns:
        ``"sha256:"`` and 64 hexadecimal digits by path, such as ``steps[1][1].coef_``; the same for two dumps of one
        model. A path that differs is a parameter, an array or a type that differs.

    Raises:
        ConfigError: not a skops file, a damaged one, or one larger than `MAX_BYTES`.

    Source: the layout that `skops.io` writes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _require_bounds(archive, file.name)
            if archive.getinfo("schema.json").file_size > MAX_TREE_BYTES:
                raise ConfigError(f"{file.name} describes its model in more than {MAX_TREE_BYTES:,} bytes")
            return _Reader(archive).digests(json.loads(archive.read("schema.json")))
    except (OSError, KeyError, ValueError, MemoryError, RecursionError, zipfile.BadZipFile, RuntimeError) as error:
        if isinstance(error, ConfigError):
            raise
        seen = one_line(error) or type(error).__name__
        raise ConfigError(f"{file.name} is not a skops file that can be read: {seen}") from error


def differing_paths(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the parts in which two models differ.

    Args:
        then: of one model, from `model_content`.
        now: of the other.

    Returns:
        Paths in the order of the first model, then those that only the second one has. Where only the place differs
        that the training rows were read from, all of them begin with `READ_FROM`.
    """
    return [path for path in {**then, **now} if then.get(path) != now.get(path)]


def _require_bounds(archive: zipfile.ZipFile, name: str) -> None:
    sizes = [member.file_size for member in archive.infolist()]
    if sum(sizes) > MAX_BYTES or len(sizes) > MAX_MEMBERS:
        raise ConfigError(f"{name} unpacks to {sum(sizes):,} bytes in {len(sizes):,} parts, more than is compared")


class _Reader:
    """Walks one file's tree; an array that is used twice is digested once."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._known: dict[str, str] = {}

    def digests(self, node: Any) -> dict[str, str]:
        """Gather what stands at each path into one digest."""
        found: dict[str, list[str]] = {}
        for path, text in self._leaves(node, ""):
            found.setdefault(path, []).append(text)
        return {path: _digest(json.dumps(texts).encode()) for path, texts in found.items()}

    def _leaves(self, node: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, list):
            yield path, f"{len(node)} items"
            for place, part in enumerate(node):
                yield from self._leaves(part, f"{path}[{place}]")
        elif isinstance(node, dict):
            kind = str(node.get("__loader__", ""))
            if kind:
                yield path, f"{kind} {node.get('__module__')}.{node.get('__class__')}"
            if isinstance(node.get("file"), str):
                yield path, self._file(node["file"])
            yield from self._parts(kind, node, path)
        else:
            yield path, json.dumps(node)

    def _parts(self, kind: str, node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
        content = node.get("content")
        if kind == "SetNode" and isinstance(content, list):
            # A set's order follows from hashes of texts, which differ in each process.
            yield path, json.dumps(sorted(json.dumps(self.digests(item), sort_keys=True) for item in content))
            return
        if kind == "DictNode" and isinstance(content, dict):
            for name, value in _named(content, node.get("key_types")):
                yield from self._leaves(value, f"{path}.{name}" if path else name)
            return
        for key in sorted(set(node) - set(_LEFT_OUT)):
            yield from self._leaves(node[key], path if key == "content" else f"{path}.{key}".lstrip("."))

    def _file(self, name: str) -> str:
        if name not in self._known:
            data = self._archive.read(name)
            if name.endswith(".npy"):
                self._known[name] = _array_digest(_loaded(data))
            elif name.endswith(".npz"):
                self._known[name] = _sparse_digest(data, name)
            else:
                self._known[name] = _digest(data)
        return self._known[name]


def _named(content: Mapping[str, Any], key_types: Any) -> Iterable[tuple[str, Any]]:
    """Name a dict's items in an order of their own; JSON has made text of keys that were numbers."""
    listed = key_types.get("content") if isinstance(key_types, dict) else None
    kinds = [kind.get("__class__") for kind in listed if isinstance(kind, dict)] if isinstance(listed, list) else []
    if len(kinds) != len(content):  # two keys that JSON took for one: skops itself has lost one of them
        kinds = ["str"] * len(content)
    named = [
        (name if kind == "str" else f"{kind}({name})", value)
        for kind, (name, value) in zip(kinds, content.items(), strict=True)
    ]
    return sorted(named, key=lambda item: item[0])


def _loaded(data: bytes) -> np.ndarray[Any, Any]:
    import numpy as np

    array: np.ndarray[Any, Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def _sparse_digest(data: bytes, name: str) -> str:
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _require_bounds(archive, name)
    with np.load(io.BytesIO(data), allow_pickle=False) as parts:
        digests = {key: _array_digest(parts[key]) for key in sorted(parts.files)}
    return _digest(json.dumps(digests).encode())


def _array_digest(array: np.ndarray[Any, Any]) -> str:
    """Digest type, shape and values; of records field by field, because the bytes between fields are left over."""
    if array.dtype.names:
        fields = {name: _array_digest(array[name]) for name in array.dtype.names}
        return _digest(json.dumps([array.shape, fields]).encode())
    return _digest(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes())


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
