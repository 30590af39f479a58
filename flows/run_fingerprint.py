"""Know without reading a row that a training would repeat one that was decided.

The rows themselves tell it too (the recipe of a decision names every cell), but that takes reading, checking and
splitting them. The version of a table of the lake names the same rows at once. So a training notes in its lease under
which name it would be known again; where the name cannot promise the same outcome there is none, and rows are read.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from prefect.context import FlowRunContext

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import MLOpsError
from prefect_mlops.core.lake.commits import open_table
from prefect_mlops.core.lineage.environment import CodeState, installed_packages
from prefect_mlops.core.promotion.history import DECISIONS, Entry, decided
from prefect_mlops.core.specs.fingerprints import described_steps
from prefect_mlops.core.specs.model import ModelSpec, is_address
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from deltalake import DeltaTable

_NAME, _RECIPE, _TRAINING = "known_as", "recipe", "training"


class RunFingerprint(Value):
    """The name of a training, before anything is read.

    Attributes:
        name: over data version, spec, suite, code and packages.
        version: of the dataset, which has to be read then.
    """

    name: str
    version: int


def fingerprint_of(spec: ModelSpec, data: str, code: CodeState, *, own: str = "") -> RunFingerprint | None:
    """Name a training by what it is going to read and run.

    Args:
        spec: the recipe.
        data: as `ModelSpec.source` takes it.
        code: of the checkout.
        own: name of a flow of one's own, which trains otherwise than the ready one; empty for that.

    Returns:
        None where rows are not those of a dataset of the lake, or code is not all in a repository.
    """
    suite = getattr(spec.suite, "to_json_dict", None)
    table = _table(spec, data)
    if table is None or suite is None or not code.complete:
        return None
    parts = {
        "table": [str(table.metadata().id), table.version()],
        "spec": spec.decision_digest,
        "suite": suite(),
        "code": [code.commit, code.diff],
        "packages": [platform.python_version(), version("prefect-mlops"), *installed_packages()],
    }
    parts |= {"flow": own} if own else {}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return RunFingerprint(name=f"sha256:{digest}", version=table.version())


def _table(spec: ModelSpec, data: str) -> DeltaTable | None:
    """Open the dataset; None for other kinds of tables, and where it cannot be opened: reading its rows reports why."""
    if is_address(spec.dataset) or (data and not (data.startswith("@") and data[1:].isdecimal())):
        return None
    try:
        return open_table(table_uri("datasets", spec.dataset), version=int(data[1:]) if data else None)
    except MLOpsError:
        return None


def own_steps() -> str:
    """Name the calling flow by its name and code where it is a flow of one's own; empty for those of this library."""
    context = FlowRunContext.get()
    called = context.flow if context else None
    if called is None or called.fn.__module__.startswith("prefect_mlops.flows."):
        return ""
    return f"{called.name} {hashlib.sha256(described_steps(called.fn).encode()).hexdigest()}"


def digest_of(spec_digest: str, rows: str, *, own: str = "") -> str:
    """Name a training or a decision by every cell of the rows it rests on.

    Args:
        spec_digest: `ModelSpec.training_digest` or `ModelSpec.decision_digest`.
        rows: digest of the rows on both sides.
        own: as for `fingerprint_of`.
    """
    return "sha256:" + hashlib.sha256(" ".join(filter(None, (spec_digest, rows, own))).encode()).hexdigest()


def noted(known: RunFingerprint | None, *, recipe: str, training: str) -> dict[str, str]:
    """Return what the training lock notes, so that the training is known again.

    Args:
        known: from `fingerprint_of`, when the rows of its version have been read; None where it can promise nothing.
        recipe: what the decision is going to rest on.
        training: what the model is going to rest on.
    """
    return {**({_NAME: known.name, _RECIPE: recipe} if known else {}), _TRAINING: training}


def decided_by_older_release(entries: Sequence[Entry], recipe: str) -> Entry | None:
    """Return a decision of a release whose recipes did not hold limits, approval and checks; None where there is none.

    Args:
        entries: the model's history, oldest first.
        recipe: of `ModelSpec.digest` and the rows.
    """
    found = decided(entries, recipe)
    run = found.flow_run if found else ""
    noted_too = any(one.kind == "leased" and one.flow_run == run and _TRAINING in one.details for one in entries)
    return None if noted_too else found


def trained_before(entries: Sequence[Entry], training: str) -> int | None:
    """Return the newest version that came of a training and was decided on; None where there is none.

    Args:
        entries: the model's history, oldest first.
        training: as it was `noted`.
    """
    runs = {one.flow_run for one in entries if one.kind == "leased" and one.details.get(_TRAINING) == training} - {""}
    made = (one.version for one in reversed(entries) if one.flow_run in runs and one.kind in DECISIONS)
    return next((version for version in made if version is not None), None)


def decided_before(entries: Sequence[Entry], known: RunFingerprint) -> Entry | None:
    """Return the newest decision on a training that was known by this name; None where there was none."""
    lease = next(
        (one for one in reversed(entries) if one.kind == "leased" and one.details.get(_NAME) == known.name), None
    )
    return decided(entries, str(lease.details.get(_RECIPE))) if lease else None
