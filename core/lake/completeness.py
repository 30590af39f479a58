"""Completeness: which files of the landing zone are complete, and which are still being written."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.landing import Landed, local_file, look

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec

STEP_SECONDS = 0.05  # the clocks of local file systems move in steps of 1 to 10 ms


def await_complete(spec: DatasetSpec, files: list[Landed], *, patience: float) -> tuple[list[Landed], list[str]]:
    """Wait until files are complete, up to a timeout.

    A file counts as complete when it has not changed for `DatasetSpec.settle_seconds`: on this machine since its last
    change, elsewhere for as long as it was observed, because another machine's clock may differ. With a marker, when
    the marker is there. Manifests are compared by content, once the file is read: `promised`.

    Args:
        spec: whose files.
        files: as they were listed.
        patience: seconds to wait at most.

    Returns:
        Complete files, as they were then, and a sentence for each that is still being written.
    """
    done: list[Landed] = []
    waiting = {file.path: (file, time.monotonic()) for file in files}
    # A marker may take hours: the next run checks again.
    deadline = time.monotonic() + (min(patience, 2 * STEP_SECONDS) if spec.marker else patience)
    while True:
        for path, (file, since) in list(waiting.items()):
            if not _complete(spec, file, since):
                continue
            done.append(file)
            del waiting[path]
        left = deadline - time.monotonic()
        if not waiting or left <= 0:
            break
        time.sleep(min(max(spec.settle_seconds / 4, STEP_SECONDS), left))
        for path, (file, since) in list(waiting.items()):
            try:
                now = look(spec, path)
            except ConfigError:  # deleted meanwhile
                del waiting[path]
                continue
            same = (now.size, now.stamp) == (file.size, file.stamp)  # some storage reports no stamp
            waiting[path] = (now, since if same else time.monotonic())
    why = f"its marker {spec.marker!r} is not there yet" if spec.marker else "still being written"
    return sorted(done, key=lambda file: file.path), [f"{path}: {why}" for path in sorted(waiting)]


def promised(spec: DatasetSpec, file: Landed) -> str | None:
    """Return the digest a manifest lists for a file; None without manifest, empty where the file is not listed.

    Raises:
        BackendError: storage failed.
    """
    if not spec.manifest:
        return None
    folder, _, name = file.path.rpartition("/")
    manifest = f"{folder}/{spec.manifest}".lstrip("/")
    try:
        with local_file(spec, look(spec, manifest)) as listed:
            lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
    except ConfigError:
        return ""
    for line in lines:  # as `sha256sum` writes them: digest, blank, blank or asterisk, name
        digest, _, listed_name = line.strip().partition(" ")
        if listed_name.strip().lstrip("*").removeprefix("./") == name:
            return f"sha256:{digest.lower()}"
    return ""


def _complete(spec: DatasetSpec, file: Landed, since: float) -> bool:
    if spec.marker and not _marked(spec, file):
        return False
    remote = "://" in spec.landing_place
    settle = 0.0 if spec.marker or spec.manifest else spec.settle_seconds
    # Two writes within one step of the storage's clock have the same time.
    needed = max(settle, 0.0 if remote and file.stamp else STEP_SECONDS)
    seen = time.monotonic() - since
    # The clock of another machine may differ from ours, so only what was observed counts there.
    age = 0.0 if remote else (datetime.now(timezone.utc) - file.modified).total_seconds()
    return max(age, seen) >= needed


def _marked(spec: DatasetSpec, file: Landed) -> bool:
    folder, _, name = file.path.rpartition("/")
    marker = f"{folder}/{spec.marker.replace('{name}', name)}".lstrip("/")
    try:
        look(spec, marker)
    except ConfigError:
        return False
    return True
