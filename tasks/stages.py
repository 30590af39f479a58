"""Read the stages that older MLflow gave to model versions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prefect_mlops.core.errors import unknown_name
from prefect_mlops.core.values import Value
from prefect_mlops.tasks import _mlflow

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE = 1000


class Staged(Value):
    """Which versions of a model are in a stage.

    Attributes:
        model: registered model.
        production: versions in stage Production, the newest first.
        staging: versions in stage Staging, the newest first.
        aliases: version by alias.
    """

    model: str
    production: tuple[int, ...] = ()
    staging: tuple[int, ...] = ()
    aliases: dict[str, int]


def list_stages(models: Sequence[str] = ()) -> list[Staged]:
    """List the models with versions in Production or Staging, by name.

    Args:
        models: registered models; empty for all.

    Raises:
        ConfigError: no such model, with the nearest names.
        BackendError: MLflow failed.
    """
    client = _mlflow.mlflow_client()
    staged: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    with _mlflow.backend("listing stages"):
        aliases, token = {}, None
        while token != "":
            page = client.search_registered_models(max_results=_PAGE, page_token=token)
            aliases.update({one.name: {name: int(number) for name, number in one.aliases.items()} for one in page})
            token = page.token or ""
        token = None
        while token != "":
            found = client.search_model_versions(max_results=_PAGE, page_token=token)
            for version in found:
                staged[version.name][str(version.current_stage)].append(int(version.version))
            token = found.token or ""
    for name in models:
        if name not in aliases:
            raise unknown_name("registered model", name, aliases)
    listed = [_staged(name, staged[name], aliases[name]) for name in sorted(models or aliases)]
    return [one for one in listed if one.production or one.staging or models]


def _staged(model: str, versions: dict[str, list[int]], aliases: dict[str, int]) -> Staged:
    def newest_first(stage: str) -> tuple[int, ...]:
        return tuple(sorted(versions.get(stage, ()), reverse=True))

    return Staged(model=model, production=newest_first("Production"), staging=newest_first("Staging"), aliases=aliases)
