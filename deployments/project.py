"""What a project's ``prefect.yaml`` declares: its deployments, and the datasets and models they work on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_mlops.core.errors import ConfigError, MLOpsError, unknown_name

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec
    from prefect_mlops.core.specs.model import ModelSpec

PROJECT_FILE = "prefect.yaml"
POOL = "mlops"  # where a file names none; Prefect reserves every name that starts with "prefect"

Spec = TypeVar("Spec", "DatasetSpec", "ModelSpec")


@dataclass(frozen=True)
class Declared:
    """What the deployments of a project work on.

    Attributes:
        datasets: dotted names of dataset specs, without doubles, in the order of the file.
        models: dotted names of model specs, likewise.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...]


def read_file(project: Path) -> dict[str, Any]:
    """Read a project's file as Prefect does, before anything in it is filled in.

    Args:
        project: folder that holds the ``prefect.yaml``.

    Returns:
        Its content; ``deployments`` is a list of entries that each have a name.

    Raises:
        ConfigError: when there is no such file, it is not YAML, or lists no deployments with a name each.
    """
    import yaml  # type: ignore[import-untyped]  # comes with Prefect, whose format it is

    file = project / PROJECT_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {PROJECT_FILE} in {project}: run `prefect init` there, or name another folder") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    entries = content.get("deployments") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise ConfigError(f"{file} lists no deployments, so there is nothing to serve")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            raise ConfigError(f"{file}: deployment {number} has no name; give it one, e.g. `name: train`")
        if not isinstance(entry.get("work_pool") or {}, dict):
            raise ConfigError(f"{file}: deployment {entry['name']!r}: work_pool: expected a mapping with a name")
    return dict(content)


def pool_of(entry: dict[str, Any]) -> str:
    """Name the work pool of a deployment's entry."""
    return str((entry.get("work_pool") or {}).get("name") or POOL)


def read_project(project: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read what a project's file wants served.

    Args:
        project: folder that holds the ``prefect.yaml``.

    Returns:
        The work pools it names, without doubles and in its order, and the names of its deployments.

    Raises:
        ConfigError: when there is no such file, it is not YAML or lists no deployments.
    """
    entries = read_file(project)["deployments"]
    return tuple(dict.fromkeys(map(pool_of, entries))), tuple(entry["name"] for entry in entries)


def declared(project: Path = Path()) -> Declared:
    """List the datasets and models that a project's deployments work on.

    Args:
        project: folder that holds the ``prefect.yaml``.

    Returns:
        Their dotted names; nothing is imported.

    Raises:
        ConfigError: when there is no such file, it is not YAML or lists no deployments.
    """
    entries = read_file(project)["deployments"]

    def named(parameter: str) -> tuple[str, ...]:
        values = [(entry.get("parameters") or {}).get(parameter) for entry in entries]
        names = (value for value in values if isinstance(value, str) and value and "{{" not in value)
        return tuple(dict.fromkeys(names))  # a template is filled in at deploying: its name is not known here

    return Declared(named("dataset"), named("model"))


def resolve_dataset(name: str, project: Path = Path()) -> tuple[str, DatasetSpec]:
    """Find a dataset by its dotted name, or by its plain name among those the project declares.

    Args:
        name: e.g. ``"flights.flights"`` or ``"flights"``.
        project: folder of the project; what is imported from it comes first.

    Returns:
        The dotted name, and the spec.

    Raises:
        ConfigError: no such dataset, with the nearest names; or its module cannot be imported.
    """
    from prefect_mlops.core.specs.dataset import load_dataset

    return _resolve(name, project, load=load_dataset, word="dataset")


def resolve_model(name: str, project: Path = Path()) -> tuple[str, ModelSpec]:
    """Find a model's spec by its dotted name, or by its plain name among those the project declares.

    Args:
        name: e.g. ``"flights.model"`` or ``"flights-late"``.
        project: folder of the project; what is imported from it comes first.

    Returns:
        The dotted name, and the spec.

    Raises:
        ConfigError: no such model, with the nearest names; or its module cannot be imported.
    """
    from prefect_mlops.core.specs.model import load_spec

    return _resolve(name, project, load=load_spec, word="model")


def _resolve(name: str, project: Path, *, load: Callable[[str], Spec], word: str) -> tuple[str, Spec]:
    project = project.expanduser().absolute()
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    wrong: MLOpsError | None = None
    if "." in name:  # a model's plain name may hold one too
        try:
            return name, _load(name, load, word)
        except ConfigError as error:
            wrong = error
    if not (project / PROJECT_FILE).exists():
        raise wrong or ConfigError(
            f"{word} {name!r}: only dotted names can be looked up here, as there is no {PROJECT_FILE} in {project}; "
            f"write module.object, e.g. 'flights.{word}', or name the project's folder"
        )
    names = getattr(declared(project), f"{word}s")
    return _called(name, {dotted: _attempt(dotted, load, word) for dotted in names}, word=word, wrong=wrong)


def _called(
    name: str, found: dict[str, Spec | ConfigError], *, word: str, wrong: MLOpsError | None
) -> tuple[str, Spec]:
    """Pick the declared spec of that plain name."""
    specs = {dotted: spec for dotted, spec in found.items() if not isinstance(spec, ConfigError)}
    same = [dotted for dotted, spec in specs.items() if spec.name == name]
    if len(same) > 1:
        raise ConfigError(f"{len(same)} {word}s are called {name!r}: write which one you mean, {_either(same)}")
    if same:
        return same[0], specs[same[0]]
    if wrong:
        raise wrong
    broken = [error for error in found.values() if isinstance(error, ConfigError)]
    if broken:  # the name may be that of the one that could not be loaded
        raise broken[0]
    raise unknown_name(f"{word} that {PROJECT_FILE} declares", name, {spec.name for spec in specs.values()})


def _attempt(dotted: str, load: Callable[[str], Spec], word: str) -> Spec | ConfigError:
    try:
        return _load(dotted, load, word)
    except ConfigError as error:
        return error


def _load(dotted: str, load: Callable[[str], Spec], word: str) -> Spec:
    try:
        return load(dotted)
    except MLOpsError:
        raise
    except Exception as error:  # the module is the user's own, and may raise anything while it is imported
        raise ConfigError(f"{word} {dotted!r} cannot be imported: {type(error).__name__}: {error}") from error


def _either(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names)
