"""Errors of pandas, Arrow, Delta and SQL, translated to ours in this one place.

Messages name the source, never its password, and are short however long the library's own text was.
"""

from __future__ import annotations

import re
import urllib.parse
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError, MLOpsError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.text import one_line

MAX_SUBJECT = 200  # signed URLs run to thousands of characters

_USERINFO = re.compile(r"://(?P<user>[^:/?#@]*):(?!//)(?P<secret>.*)@")
_PARAMETER = re.compile(
    r"(?i)(?P<key>[?&][^=&#]*(?:pass|pwd|secret|token|key|sig|cred|auth)[^=&#]*=)(?P<secret>[^&#]+)"
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SQL_REQUEST = re.compile(r"(?i)no such (table|column|function)|syntax error|incomplete input|unrecognized token")
_NO_PARQUET = re.compile(r"Could not open Parquet input source '(?P<file>[^']*)': Parquet (magic bytes|file size)")
_FIELDS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


def masked(uri: str) -> str:
    """Return the address with its password and every secret parameter replaced by ``***``."""
    return _PARAMETER.sub(r"\g<key>***", _USERINFO.sub(r"://\g<user>:***@", uri))


def subject_of(uri: str) -> str:
    """Return how messages name a source: masked, and cut to its end where it is long."""
    name = masked(uri)
    return name if len(name) <= MAX_SUBJECT else "…" + name[1 - MAX_SUBJECT :]


def bad_content(uri: str, *, name: str, observed: str, expected: str) -> DataCheckError:
    """Build the error for a source that was reached and does not hold a usable table.

    Args:
        uri: where it was read from; masked here.
        name: what was checked.
        observed: what was seen.
        expected: what has to be there instead.

    Returns:
        The error, with a report of this one failed check.
    """
    subject = subject_of(uri)
    check = Check(name=name, passed=False, observed=brief(observed, uri), expected=expected)
    message = f"{subject}: {name}: saw {check.observed}; expected {expected}"
    return DataCheckError(message, Report(kind="data", subject=subject, checks=(check,)))


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Translate errors of reading a source to ours; the original is the cause.

    Raises:
        ConfigError: the source is not there, or something to read it with is not installed.
        DataCheckError: the content is damaged.
        BackendError: network, database or permissions.
    """
    try:
        yield
    except MLOpsError:
        raise
    except Exception as error:
        translated = _translated(error, uri)
        if translated is None:
            raise
        raise translated from error


def _translated(error: Exception, uri: str) -> MLOpsError | None:
    """Find the error of ours, or None for one that no reader is known to raise: a bug, which stays visible."""
    kinds = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if "sqlalchemy" in kinds:
        return _database_error(error, uri)
    if isinstance(_root(error), (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return ConfigError(f"{subject_of(uri)} does not exist or is not a file: check the path ({brief(error, uri)})")
    if isinstance(error, ImportError):
        return ConfigError(f"{subject_of(uri)} needs a package that is not installed: {brief(error, uri)}")
    if _is_content(error):
        return _content_error(error, uri)
    error = _root(error)  # type: ignore[assignment]
    remote = "://" in uri and not uri.startswith("file:")
    if isinstance(error, OSError) or remote:
        return BackendError(f"{subject_of(uri)} cannot be read: {brief(error, uri)}")
    return None


def _root(error: Exception) -> BaseException:
    """Return the root cause of an error: over HTTP fsspec calls every failure a missing file."""
    root: BaseException = error
    while isinstance(root, FileNotFoundError) and root.__cause__ is not None:
        root = root.__cause__
    return root


def _is_content(error: Exception) -> bool:
    """Check whether an error means bad content, not a failing disk or network.

    Codecs and Arrow raise a bare `OSError` without an error number; the operating system and the cloud file
    systems set the number or raise a type of their own.
    """
    if isinstance(error, OSError):
        return type(error).__name__ == "BadGzipFile" or (type(error) is OSError and error.errno is None)
    arrow = any(kind.__name__ == "ArrowException" for kind in type(error).__mro__)
    # LZMAError by name: the module is missing from some builds of Python.
    return arrow or isinstance(error, (ValueError, EOFError, zlib.error)) or type(error).__name__ == "LZMAError"


def _content_error(error: Exception, uri: str) -> DataCheckError:
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        seen = f"byte 0x{error.object[error.start]:02x}, which is not {error.encoding}"
        return bad_content(uri, name="text can be decoded", observed=seen, expected="text saved as UTF-8")
    if fields := _FIELDS.search(text):
        wanted, line, seen = fields.groups()
        return uneven_rows(uri, fields=int(wanted), line=int(line), seen=int(seen))
    if "EOF inside string" in text:
        return bad_content(
            uri, name="quotes are closed", observed=text, expected="a closing quote for each opening one"
        )
    if "duplicate field names" in text:
        return bad_content(uri, name="column names are unique", observed="repeated names", expected="each name once")
    if damage := _NO_PARQUET.search(text):
        file = damage["file"].rpartition("/")[2]
        seen = f"no Parquet footer in {file}: it was cut short, or is another kind of file"
        return bad_content(uri, name="content is Parquet", observed=seen, expected="complete Parquet files")
    return bad_content(
        uri, name="content can be read", observed=text, expected="a complete file of the kind it is named"
    )


def uneven_rows(uri: str, *, fields: int, line: int, seen: int) -> DataCheckError:
    """Build the error for a row that has more or fewer fields than the header."""
    return bad_content(
        uri,
        name="every row has the fields of the header",
        observed=f"{seen} fields in line {line}",
        expected=f"{fields} fields (quote values that hold the delimiter)",
    )


def _database_error(error: Exception, uri: str) -> MLOpsError:
    original = getattr(error, "orig", None) or error
    kind, detail = type(error).__name__, brief(original, uri)
    if kind == "NoSuchModuleError":
        scheme = uri.partition("://")[0]
        return ConfigError(
            f"{subject_of(uri)}: nothing installed reads {scheme!r}: for files use a path or an fsspec address such as "
            "s3://, for a database install its SQLAlchemy dialect"
        )
    if kind == "ArgumentError":
        return ConfigError(f"{subject_of(uri)} is not a database address: {detail}")
    if kind in {"ProgrammingError", "ResourceClosedError"} or _SQL_REQUEST.search(detail):
        return ConfigError(f"{subject_of(uri)}: the query is wrong: {detail}")
    return BackendError(f"{subject_of(uri)} cannot be read: {detail}")


def brief(text: object, uri: str) -> str:
    """Return a library's text on one line, without secrets of the address, cut at `MAX_REASON` characters."""
    line = one_line(_ANSI.sub("", str(text)), None).replace(uri, masked(uri))
    for match in (*_USERINFO.finditer(uri), *_PARAMETER.finditer(uri)):
        for secret in {match["secret"], urllib.parse.unquote(match["secret"])} - {""}:
            line = line.replace(secret, "***")
    return one_line(line)
