"""Settings of a site, from environment variables; the defaults work on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Settings read from ``PREFECT_MLOPS_*`` variables at each call, so tests and workers see the current ones.

    Attributes:
        home: folder of the lake and the local stack's databases.
        lake: URI of the lake; empty means ``<home>/lake``.
        trusted_types: comma-separated types allowed in model files, beside the reviewed list.
        lock_file: lock file whose digest is kept with each model; empty means ``requirements.lock`` where there is one.
        debug: show tracebacks instead of messages alone.
        groups: JSON object of names by group, such as ``{"risk": ["anna", "ben"]}``: who may approve as ``@risk``.
        mlflow_ui: address of MLflow's pages, where tracking itself goes to a database instead of a server.
    """

    model_config = SettingsConfigDict(env_prefix="PREFECT_MLOPS_", extra="ignore")

    home: Path = Path(".prefect-mlops")
    lake: str = ""
    trusted_types: Annotated[tuple[str, ...], NoDecode] = ()
    lock_file: Path | None = None
    debug: bool = False
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    mlflow_ui: str = ""

    @field_validator("trusted_types", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @property
    def lake_uri(self) -> str:
        """The lake's address: as set, or below ``home``."""
        return self.lake or str((self.home / "lake").absolute())
