"""Importing the specs that a project declares, by dotted name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import TypeVar

from prefect_mlops.core.errors import ConfigError, unknown_name

T = TypeVar("T")


def load_object(name: str, kind: type[T], *, word: str) -> T:
    """Import an object of a known kind.

    Args:
        name: e.g. ``"flights.model"``: the object ``model`` of the module ``flights``.
        kind: what it has to be.
        word: what messages call it, e.g. ``"model"``.

    Returns:
        The object.

    Raises:
        ConfigError: no such module or object, with the nearest names; or the object is of another kind.
    """
    module_name, _, attribute = name.strip().rpartition(".")
    if not module_name or not all(part.isidentifier() for part in name.strip().split(".")):
        raise ConfigError(f"{word} {name!r} is not a dotted name: write module.object, e.g. 'flights.{word}'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{word} {name!r}: there is no module {error.name!r} to import{_nearest_modules(error.name or '')}; it has "
            "to be installed, or in the folder the flow runs in"
        ) from error
    if not hasattr(module, attribute):
        known = [key for key, value in vars(module).items() if isinstance(value, kind)]
        raise unknown_name(f"{kind.__name__} in {module_name}", attribute, known)
    found = getattr(module, attribute)
    if not isinstance(found, kind):
        raise ConfigError(f"{word} {name!r} is a {type(found).__name__}, not a {kind.__name__}")
    return found


def _nearest_modules(name: str) -> str:
    """Name the modules beside a missing one that are written alike."""
    parent, _, leaf = name.rpartition(".")
    folders = getattr(importlib.import_module(parent), "__path__", []) if parent else None
    near = difflib.get_close_matches(leaf, {module.name for module in pkgutil.iter_modules(folders)}, n=2)
    return f" (did you mean {' or '.join(repr(other) for other in near)}?)" if near else ""
