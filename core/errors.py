"""Errors, one class for each thing the caller should do about it.

Every error can be rebuilt from its message alone, so it survives pickle, cloudpickle and Prefect's JSON.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prefect_mlops.core.text import listed, one_line

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report

MAX_SUGGESTIONS = 3  # similar names; more would have to be searched
MAX_LISTED = 8  # where no name is similar, the first few are examples
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_NO_ACCESS = {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}


class MLOpsError(Exception):
    """Base class of the errors of prefect-mlops; the message is for people."""


class ConfigError(MLOpsError, ValueError):
    """The request is wrong: fix the call. Never retried."""


class CheckError(MLOpsError):
    """A check failed. Never retried.

    Attributes:
        report: all checks; None where the error was rebuilt from its message alone.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class DataCheckError(CheckError):
    """The data failed its checks."""


class GateError(CheckError):
    """The challenger may not replace the champion."""


class DriftError(CheckError):
    """The data has drifted from what the model was trained on."""


class PerformanceError(CheckError):
    """The score of the live model has degraded."""


class ConflictError(MLOpsError):
    """A concurrent write won the race (optimistic concurrency): read the current state, then decide again."""


class BackendError(MLOpsError):
    """MLflow, storage or a server failed. Retried; the original error is ``__cause__``."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> ConfigError:
    """Build the error for an unknown name, with similar known names.

    Args:
        kind: what the name is of, e.g. ``"column of flights.csv"``.
        name: the unknown name.
        known: all known names.
        hint: a further sentence on what to do.

    Returns:
        The error, to be raised by the caller.
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=MAX_SUGGESTIONS, cutoff=0.5)
    if near:
        seen = "did you mean " + " or ".join(repr(option) for option in near) + "?"
    elif options:
        seen = f"there are: {listed([repr(option) for option in options], MAX_LISTED)}"
    else:
        seen = "there are none"
    return ConfigError(" ".join(part for part in (f"no {kind} is called {name!r}: {seen}", hint) if part))


def storage_problem(error: Exception) -> str:
    """Summarise an error of object storage; delta-rs quotes all requests and XML."""
    text = one_line(_ANSI.sub("", str(error)), None)
    code = re.search(r"<Code>(\w+)</Code>", text)
    asked = re.search(r"Error performing \w+ (\w+://[^/\s]+)", text)
    if code and code[1] == "NoSuchBucket":
        return "there is no such bucket"
    if code and code[1] in _NO_ACCESS:
        return f"storage refuses access ({code[1]}): check the key, its rights and the region"
    if asked and "169.254." in asked[1]:
        return "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
    if asked and any(words in text for words in ("tcp connect error", "dns error", "operation timed out")):
        return f"nobody answers at {asked[1]}"
    return one_line(text)
