"""Fingerprints: text that describes a spec's values in full, and is the same in every process.

`repr` does not serve: it shortens long arrays, orders sets by a seed of the process, holds memory addresses, and says
nothing of what a function does.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def described(value: Any) -> str:
    """Spell out a value: an estimator by its parameters, a function by its code, an array by all of its cells.

    Args:
        value: anything a person passes to an estimator or names in a spec.

    Returns:
        Text that is equal for equal values and differs where they do; what can only be named is named.
    """
    return _described(value, ())


def described_steps(function: Callable[..., Any]) -> str:
    """Spell out what a function does, with the functions of its own module that it names."""
    named = _names(function.__code__)
    helpers = [
        item
        for name, item in sorted(function.__globals__.items(), key=lambda pair: pair[0])
        if name in named and isinstance(item, FunctionType) and item.__module__ == function.__module__
    ]
    return described([function, *helpers])


def _described(value: Any, above: tuple[int, ...]) -> str:  # noqa: PLR0911 - one return for each kind of value
    if isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in above:
        return "(itself)"
    within = (*above, id(value))
    if isinstance(value, (type, ModuleType)):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = sorted(f"{_described(key, within)}: {_described(item, within)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_described(item, within) for item in value))}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(_described(item, within) for item in value)})"
    if hasattr(value, "to_numpy"):  # of pandas
        return f"{type(value).__name__} {list(getattr(value, 'columns', ()))} {_array(value.to_numpy(), within)}"
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return _array(value, within)
    if isinstance(value, (FunctionType, MethodType, functools.partial, CodeType)):
        return _function(value, within)
    return _object(value, within)


def _array(cells: Any, above: tuple[int, ...]) -> str:
    if cells.dtype.hasobject:
        return _described(cells.tolist(), above)
    return f"{cells.dtype} {cells.shape} {hashlib.sha256(cells.tobytes()).hexdigest()}"


def _function(value: Any, above: tuple[int, ...]) -> str:
    """Spell out what a function does; its own name and line numbers do not matter."""
    if isinstance(value, functools.partial):
        return f"partial{_described([value.func, value.args, value.keywords], above)}"
    if isinstance(value, MethodType):
        return f"method{_described([value.__self__, value.__func__], above)}"
    if isinstance(value, CodeType):
        return _described([value.co_code, value.co_names, value.co_varnames, value.co_consts], above)
    named = _names(value.__code__)
    settings = {name: item for name, item in value.__globals__.items() if name in named and _is_setting(item)}
    held = [cell.cell_contents for cell in value.__closure__ or ()]
    return f"function{_described([value.__code__, value.__defaults__, value.__kwdefaults__, held, settings], above)}"


def _names(code: CodeType) -> set[str]:
    inner = (item for item in code.co_consts if isinstance(item, CodeType))
    return set(code.co_names).union(*(_names(item) for item in inner))


def _is_setting(value: object) -> bool:
    """Check whether a global is a constant, such as a threshold, and not a module, class or function."""
    return isinstance(value, (*_PLAIN, list, tuple, dict, set, frozenset))


def _object(value: Any, above: tuple[int, ...]) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if hasattr(value, "get_params"):
        return f"{kind}{_described(value.get_params(deep=False), above)}"
    if getattr(value, "__dict__", None):
        return f"{kind}{_described(vars(value), above)}"
    return _ADDRESS.sub("", repr(value))
