"""How a person names a model and a version of it: MODEL, MODEL@alias or MODEL/3."""

from __future__ import annotations

import re
from typing import NamedTuple

from prefect_mlops.core.errors import ConfigError

_NAMED = re.compile(r"(?P<name>[^/:]+?)(?:/v?(?P<version>[1-9][0-9]{0,8})|@(?P<alias>[^/@]+))?")


class Named(NamedTuple):
    """What a person wrote: the model, and the number or the alias of a version; None where they gave neither."""

    model: str
    which: int | str | None


def named(text: str) -> Named:
    """Read ``MODEL``, ``MODEL@alias``, ``MODEL/3`` or ``MODEL/v3``.

    Raises:
        ConfigError: it is none of them.
    """
    found = _NAMED.fullmatch(text.strip())
    # In "@champion" the model is missing, in "shop@" the alias: neither is the name of a model.
    if found is None or found["name"].startswith("@") or found["name"].endswith("@"):
        raise ConfigError(f"{text!r:.100} names no model: write MODEL, MODEL/3 for its version 3, or MODEL@champion")
    return Named(found["name"].strip(), int(found["version"]) if found["version"] else found["alias"])


def named_version(text: str) -> tuple[str, int | str]:
    """Read ``MODEL/VERSION`` or ``MODEL@alias``.

    Returns:
        The model's name, and the number of the version or the alias.

    Raises:
        ConfigError: it is neither.
    """
    try:
        model, which = named(text)
    except ConfigError:
        which = None
    if which is None:
        raise ConfigError(
            f"{text!r:.100} names no model version: write MODEL/VERSION, as flights/3, or flights@champion"
        )
    return model, which
