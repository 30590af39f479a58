"""What is told of environment, seed, hardware and predictions, from records that may be old, partial or damaged."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prefect_mlops.core.values import ModelVersion
from prefect_mlops.reproduction.diff import (
    code_part,
    environment_part,
    hardware_part,
    predictions_part,
    seed_part,
)
from prefect_mlops.reproduction.recorded_run import RecordedRun, versions
from prefect_mlops.reproduction.worktrees import Checkout
from prefect_mlops.tracking.run_tags import RunTags

NUMPY = importlib.metadata.version("numpy")
DONE = {"stage": "done"}
Make = Callable[..., RecordedRun]


@pytest.fixture
def evidence(tmp_path: Path) -> Make:
    version = ModelVersion(name="shop", version=1, run_id="r", model_uri="models:/m-1")

    def make(*, packages: str | None = None, predictions: Path | None = None, **tags: str) -> RecordedRun:
        files = {}
        if packages is not None:
            files["packages"] = tmp_path / "packages.txt"
            files["packages"].write_text(packages)
        if predictions is not None:
            files |= {"predictions": predictions, "rows": tmp_path / "rows.parquet"}
        return RecordedRun(
            version, tmp_path / "m.skops", RunTags({f"prefect_mlops.{name}": tag for name, tag in tags.items()}), files
        )

    return make


def test_names_of_packages_are_written_alike() -> None:
    assert versions("Great_Expectations==1.2\nnumpy==2.0\n-e .\n\n# a\n") == {
        "great-expectations": "1.2",
        "numpy": "2.0",
    }


def test_without_a_list_of_packages_the_lock_is_asked(evidence: Make, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"numpy=={NUMPY} ; python_version >= '3' \\\n    --hash=sha256:aa\n    # via pandas\n"
        "rich==0.1 ; sys_platform == 'nowhere'\npandas==0.1 ; python_version >= '3'\nnot-here-at-all==3\n???==1\n"
    )
    told = environment_part(evidence(), {}, lock)
    assert told.state == "differs"
    assert told.sentence == f"pandas 0.1 in the lock, {importlib.metadata.version('pandas')} now"
    lock.write_text(f"numpy=={NUMPY}\n")
    assert environment_part(evidence(), {}, lock).state == "same"
    assert environment_part(evidence(), {}, None).state == "unknown"


def test_python_and_the_lock_count_beside_packages(evidence: Make) -> None:
    same = evidence(
        packages=f"numpy=={NUMPY}\n", **{"environment.python": platform.python_version(), "lock": "sha256:1"}
    )
    assert environment_part(same, {"lock": "sha256:1"}, None).state == "same"
    told = environment_part(same, {"lock": "sha256:2"}, None)
    assert (told.state, told.sentence) == ("differs", "the lock file is another one")
    old = evidence(packages=f"numpy=={NUMPY}\n", **{"environment.python": "3.9.0"})
    assert environment_part(old, {}, None).sentence == f"Python 3.9.0 then, {platform.python_version()} now"


def test_only_what_was_recorded_of_the_machine_is_compared(evidence: Make) -> None:
    old = evidence(**{"environment.python": "3.9.0", "environment.platform": "Linux", "environment.cpus": "2"})
    now = {"platform": "Linux", "cpus": "2", "cpu": "new", "omp_num_threads": "1"}
    assert hardware_part(old, {"environment": now}).sentence == "cpus 2, platform Linux"
    other = hardware_part(old, {"environment": {**now, "cpus": "8"}})
    assert (other.state, other.sentence) == ("differs", "cpus 2 then, 8 now")
    assert hardware_part(evidence(), {"environment": now}).state == "unknown"
    assert hardware_part(old, {}).state == "unknown"


def test_a_seed_nobody_recorded_is_unknown(evidence: Make) -> None:
    assert seed_part(evidence(), {"seed": 3}).state == "unknown"
    assert seed_part(evidence(seed="3"), {"seed": 3}).state == "same"
    assert seed_part(evidence(seed="3"), {}).state == "unknown"
    assert seed_part(evidence(seed="3"), {"seed": 4}).state == "differs"


def test_a_spec_that_tunes_needs_what_was_found(evidence: Make, tmp_path: Path) -> None:
    result = {**DONE, "tunes": True, "spec_digest": "sha256:1"}
    assert code_part(evidence(), Checkout(tmp_path, tmp_path), result).state == "unknown"
    assert code_part(evidence(tuned="{}"), Checkout(tmp_path, tmp_path), result).state == "same"


def test_of_a_flow_of_ones_own_only_the_spec_is_repeated(evidence: Make, tmp_path: Path) -> None:
    part = code_part(evidence(flow="my-train"), Checkout(tmp_path, tmp_path), {**DONE, "spec_digest": ""})
    assert part.state == "unknown"
    assert part.sentence.startswith("the flow 'my-train' trained it, which may split or fit otherwise than the spec")


def test_the_library_has_to_come_from_the_commit(evidence: Make, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, tmp_path / "worktree", tmp_path, tmp_path / "library")
    told = code_part(evidence(), checkout, {**DONE, "library": "/elsewhere/core/__init__.py", "spec_digest": ""})
    assert (told.state, "was imported from /elsewhere" in told.sentence) == ("differs", True)
    inside = {**DONE, "library": str(tmp_path / "worktree" / "core" / "__init__.py"), "spec_digest": ""}
    assert code_part(evidence(), checkout, inside).state == "same"


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        ({"predict": [1.0, 2.0]}, {"predict": [1.0, 2.0]}, ""),
        ({"predict": [1.0, np.nan]}, {"predict": [1.0, np.nan]}, ""),
        ({"predict": [1.0, np.nan]}, {"predict": [1.0, 2.0]}, "predict differs for 1 of 2 stored rows"),
        ({"predict": [0.0]}, {"predict": [-0.0]}, "predict differs for 1 of 1 stored rows, by 0 at most"),
        ({"predict": [1.0, 2.0]}, {"predict": [1.0, 2.5]}, "predict differs for 1 of 2 stored rows, by 0.5 at most"),
        ({"predict": ["a", "b"]}, {"predict": ["a", "bcd"]}, "predict differs for 1 of 2 stored rows"),
        (
            {"predict": [1.0]},
            {"predict": [1]},
            "predict of the stored rows has shape (1,) of int64, then (1,) of float64",
        ),
        ({"predict": [1.0]}, {"predict": [1.0, 2.0]}, "has shape (2,)"),
        ({}, {"predict": [1.0]}, "predict of the stored rows is missing"),
        (
            {"predict": [1, 1], "predict_proba": [[0.1, 0.9], [0.2, 0.8]]},
            {"predict": [1, 1], "predict_proba": [[0.1, 0.9], [0.25, 0.75]]},
            "predict_proba differs for 1 of 2 stored rows, by 0.05 at most",
        ),
        (
            {"predict": [1], "decision_function": [0.5]},
            {"predict": [1]},
            "decision_function of the stored rows is missing",
        ),
    ],
)
def test_predictions_are_compared_bit_for_bit(
    evidence: Make, tmp_path: Path, then: dict[str, list], now: dict[str, list], says: str
) -> None:
    given = {"then": then, "stored_then": then, "stored_now": now, "test_then": now, "test_now": now}
    for name, arrays in given.items():
        np.savez(tmp_path / f"{name}.npz", **{key: np.array(value) for key, value in arrays.items()})
    told = predictions_part(evidence(predictions=tmp_path / "then.npz"), DONE, tmp_path)
    assert told.state == ("differs" if says else "same"), told
    assert says in told.sentence
    assert "asked again" not in told.sentence


def test_a_registered_model_that_no_longer_says_what_was_kept_is_told_apart(evidence: Make, tmp_path: Path) -> None:
    np.savez(tmp_path / "then.npz", predict=[0.1])
    for name in ("stored_then", "stored_now", "test_then", "test_now"):
        np.savez(tmp_path / f"{name}.npz", predict=[0.2])
    told = predictions_part(evidence(predictions=tmp_path / "then.npz"), DONE, tmp_path)
    assert told.state == "differs"
    assert "but shop v1, asked again, says the same as the model trained again" in told.sentence


def test_predictions_with_a_pickle_in_them_are_not_read(evidence: Make, tmp_path: Path) -> None:
    for name in ("stored_now", "test_then", "test_now"):
        np.savez(tmp_path / f"{name}.npz", predict=[1])
    np.savez(tmp_path / "then.npz", predict=np.array([object()], dtype=object), allow_pickle=True)
    told = predictions_part(evidence(predictions=tmp_path / "then.npz"), DONE, tmp_path)
    assert told.state == "unknown"
    assert "cannot be read" in told.sentence
