"""What can go wrong, by what the reader should do about it.

Every error can be rebuilt from its message alone, so pickle, cloudpickle and Prefect's JSON bring it back whole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report

MAX_SUGGESTIONS = 3  # more than three names near a wrong one are a list to search, not an answer
MAX_LISTED = 8  # where nothing is near, the first few names show what naming looks like
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_NO_ACCESS = {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}


class MLOpsError(Exception):
    """Anything prefect-mlops raises on purpose; its message is written to be read by a person."""


class ConfigError(MLOpsError, ValueError):
    """The request is wrong: fix the call. Never retried."""


class CheckError(MLOpsError):
    """The work ran and the answer is no. Never retried.

    Attributes:
        report: what was checked and seen, or None where the error came back from its message alone.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class DataCheckError(CheckError):
    """The data is not what it has to be."""


class GateError(CheckError):
    """The challenger may not replace the champion."""


class DriftError(CheckError):
    """The data has moved away from what the model was trained on."""


class PerformanceError(CheckError):
    """The live model does worse than it has to."""


class ConflictError(MLOpsError):
    """A concurrent write won the race (optimistic concurrency): read the current state, then decide again."""


class BackendError(MLOpsError):
    """MLflow, storage or a server failed. Retried; the original error is ``__cause__``."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> ConfigError:
    """Build the error for a name that is not there, with the nearest ones that are.

    Args:
        kind: what was named, e.g. ``"column of flights.csv"``.
        name: the name that was asked for.
        known: the names there are.
        hint: one more sentence on what to do.

    Returns:
        The error, to be raised by the caller.
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=MAX_SUGGESTIONS, cutoff=0.5)
    if near:
        seen = "did you mean " + " or ".join(repr(option) for option in near) + "?"
    elif options:
        shown = ", ".join(repr(option) for option in options[:MAX_LISTED])
        seen = f"there are: {shown}" + (f" and {len(options) - MAX_LISTED} more" if len(options) > MAX_LISTED else "")
    else:
        seen = "there are none"
    return ConfigError(" ".join(part for part in (f"no {kind} is called {name!r}: {seen}", hint) if part))


def storage_problem(error: Exception) -> str:
    """Say in words what object storage answered; delta-rs quotes a tree of requests and XML."""
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
