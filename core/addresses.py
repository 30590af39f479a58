"""Where the lake keeps what: the address of each table and its inverse, and the names that all its tables share."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.settings import Settings

TableKind = Literal["datasets", "quarantine", "arrivals"]

FILE_COLUMN = "_file"
DIGEST_COLUMN = "_digest"
ROW_COLUMN = "_row"
MARKS = (FILE_COLUMN, DIGEST_COLUMN, ROW_COLUMN)  # which row of which file a row was
REASONS_COLUMN = "_reasons"
LAKE_DIGEST = "sum-sha256:"  # how the digest of a data version of the lake begins
MAX_TABLE_NAME = 200  # file systems take 255 bytes

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


def table_uri(kind: TableKind, name: str) -> str:
    """Return the address of one of the lake's tables.

    Raises:
        ConfigError: a name that is not lower case letters, digits, dashes and underscores; no path is built from it.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"dataset {name!r}: use 1 to 100 lower case letters, digits, '-' and '_'")
    return f"{Settings().lake_uri.rstrip('/')}/{kind}/{name}"


def history_uri(model: str) -> str:
    """Return the address of a model's history.

    Names of models may hold more than paths and object stores keep apart: every byte but lower case letters, digits
    and dashes is written as ``_`` and two hexadecimal digits, so no two models share a table and none leads elsewhere.

    Raises:
        ConfigError: no name, or one that is too long when it is written like this.
    """
    plain = re.sub(rb"[^a-z0-9-]", lambda found: b"_%02x" % found[0][0], model.encode(errors="replace")).decode()
    # Readers such as Spark skip folders that begin with an underscore; a doubled one occurs nowhere else.
    name = f"x_{plain}" if plain.startswith("_") else plain
    if not name or len(name) > MAX_TABLE_NAME:
        raise ConfigError(f"model {model!r:.80}: its history has no table; use 1 to 60 lower case letters, digits, '-'")
    return f"{Settings().lake_uri.rstrip('/')}/history/{name}"


def monitoring_uri(model: str) -> str:
    """Return the address of a model's monitoring runs; the table has the name of its history.

    Raises:
        ConfigError: no name, or one that is too long.
    """
    return f"{Settings().lake_uri.rstrip('/')}/looks/{history_uri(model).rpartition('/')[2]}"


def table_of(uri: str) -> tuple[str, str]:
    """Return kind and name of the lake's table at an address: its last two parts, in any lake.

    One folder or bucket has many addresses (links, mounts, schemes), so the lake's own address is not compared.
    """
    kind, _, name = "/".join(re.split(r"[/\\]+", uri.rstrip("/\\"))[-2:]).rpartition("/")
    return kind, name


def dataset_of(uri: str) -> str:
    """Return the name of the dataset at an address; empty where the address is not that of a dataset."""
    kind, name = table_of(uri)
    return name if kind == "datasets" and _NAME.fullmatch(name) else ""


def is_address(text: str) -> bool:
    """Check whether a text is an address (a path or URI), not the name of a dataset in the lake."""
    return "/" in text or "\\" in text or bool(PurePosixPath(text).suffix)
