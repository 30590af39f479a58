"""A downloaded model's files, read without trusting them: nothing they name is imported, run or followed outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.imports import uncollected
from prefect_mlops.core.model_files.trusted_types import trusted_types
from prefect_mlops.core.text import MAX_REASON, listed, one_line

MAX_DESCRIPTION_BYTES = 4_000_000  # the signature of ten thousand columns takes a quarter of it
MAX_NESTING = 50  # MLflow's own descriptions are five deep; a parser gives up, or crashes, somewhere beyond this
MAX_NAME_LENGTH = 200
MAX_LISTED = 20  # types; a model of one's own needs a few


def load_model_files(folder: Path, *, subject: str) -> Any:
    """Load a scikit-learn model from a downloaded MLflow model folder, trusting only the site's own list of types.

    MLflow's loader takes the trusted types, and code to put on the import path, from the model's own file: a model
    could vouch for itself. Nothing of that is read here.

    Args:
        folder: the folder that holds ``MLmodel``.
        subject: name of the model in errors.

    Returns:
        The fitted estimator.

    Raises:
        ConfigError: not a scikit-learn model in skops format, a damaged description, a path that leads outside, or a
            type that is not trusted.
    """
    with uncollected():
        import skops.io

    path = model_file(folder, subject=subject)
    try:
        untrusted = sorted(set(skops.io.get_untrusted_types(file=path)) - trusted_types())
        model = None if untrusted else skops.io.load(path, trusted=sorted(trusted_types()))
    except Exception as error:
        raise ConfigError(f"{subject} cannot be loaded from its skops file: {_reason(error)}") from error
    if untrusted:
        raise untrusted_types(subject, untrusted)
    return model


def files_size(folder: Path) -> int:
    """Add up the files of a folder, in bytes; links are not followed."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def untrusted_types(subject: str, types: list[str]) -> ConfigError:
    """Name the types that are not trusted, and how to allow them."""
    named = [_shown(name, MAX_NAME_LENGTH) for name in types]
    return ConfigError(
        f"{subject} holds types that are not trusted: {listed(named, MAX_LISTED)}. When you have read what "
        f"they do, allow them for this site with PREFECT_MLOPS_TRUSTED_TYPES={','.join(named[:MAX_LISTED])}"
    )


def model_file(folder: Path, *, subject: str) -> Path:
    """Return the skops file of a downloaded model, which its MLmodel file names.

    Raises:
        ConfigError: it is no model in the skops format, or the file named is not inside of its folder.
    """
    return _inside(folder, _skops_file(folder, subject), subject)


def _skops_file(folder: Path, subject: str) -> str:
    """Read from a model's description which file holds it."""
    flavors = _mapping(_description(folder, subject).get("flavors"), "flavors", subject)
    if "sklearn" not in flavors:
        raise ConfigError(f"{subject} is not a scikit-learn model: its MLmodel file has no sklearn flavor")
    flavor = _mapping(flavors["sklearn"], "flavors.sklearn", subject)
    stored_as = flavor.get("serialization_format", "pickle")
    if stored_as != "skops":
        raise ConfigError(
            f"{subject} is stored as {_quoted(stored_as)}, which runs code when it is loaded: log it again with "
            "log_run, which writes skops"
        )
    name = flavor.get("pickled_model")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{subject} does not name its model file: pickled_model in MLmodel is {_quoted(name)}")
    return name


def _description(folder: Path, subject: str) -> dict[str, Any]:
    """Read ``MLmodel`` as plain mappings, lists and text."""
    import yaml  # type: ignore[import-untyped]  # comes with Prefect and MLflow, whose format it is

    path = _inside(folder, "MLmodel", subject)
    if (size := path.stat().st_size) > MAX_DESCRIPTION_BYTES:
        raise ConfigError(
            f"{subject} cannot be read: its MLmodel file has {size:,} bytes, more than {MAX_DESCRIPTION_BYTES:,}"
        )
    try:
        text = path.read_bytes().decode("utf-8")
        strange = next(filter(None, map(_strange, _nested(yaml.parse(text, Loader=yaml.BaseLoader)))), "")
        # The loader that makes nothing but mappings, lists and text: no dates, no numbers of a million digits.
        found = None if strange else yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{subject} has a damaged MLmodel file: {_reason(error)}") from error
    if strange:
        raise ConfigError(f"{subject} is refused: its MLmodel file {strange}, which MLflow does not write")
    return _mapping(found, "it", subject)


def _nested(events: Any) -> Any:
    """Yield each event of a YAML file with how deep it is."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        yield event, depth


def _strange(seen: tuple[Any, int]) -> str:
    """Return which YAML feature a description must not use: aliases can fill all memory, tags can name a class."""
    event, depth = seen
    if type(event).__name__ == "AliasEvent":
        return f"repeats a part by an alias (*{_shown(event.anchor, MAX_NAME_LENGTH)})"
    if tag := getattr(event, "tag", None):
        return f"names a type ({_shown(tag, MAX_NAME_LENGTH)})"
    return f"is nested more than {MAX_NESTING} deep" if depth > MAX_NESTING else ""


def _mapping(value: object, name: str, subject: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{subject} has a damaged MLmodel file: {name} is not a mapping but {_quoted(value)}")
    return value


def _inside(folder: Path, name: str, subject: str) -> Path:
    """Return a file of the folder, which neither its name nor a link may lead out of."""
    try:
        path = (folder / name).resolve()
        known = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
        known = False
    if not known:
        raise ConfigError(
            f"{subject} names a model file outside of its own folder or one that is not there: {_quoted(name)}"
        )
    return path


def _quoted(value: object) -> str:
    """Quote a value of a file: text itself, other values by their type."""
    if value is None:
        return "nothing"
    return repr(_shown(value, MAX_NAME_LENGTH)) if isinstance(value, str) else f"a {type(value).__name__}"


def _reason(error: Exception) -> str:
    return _shown(str(error) or type(error).__name__, MAX_REASON)


def _shown(text: str, length: int) -> str:
    return one_line("".join(sign if sign.isprintable() or sign.isspace() else "?" for sign in text), length)
