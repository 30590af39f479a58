"""Where the files of each dataset arrive, looked up in a process of its own.

A dataset's spec imports what its suite and its models need, several hundred megabytes: the watcher runs for weeks and
needs three words of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from prefect_mlops.core.errors import ConfigError, MLOpsError
from prefect_mlops.deployments.project import PROJECT_FILE, declared, resolve_dataset

LOOKUP_SECONDS = 300.0  # imports scikit-learn and Great Expectations, from a cold disk


@dataclass(frozen=True)
class LandingAddress:
    """Where a dataset's files arrive.

    Attributes:
        dataset: its plain name.
        address: absolute path or fsspec URI.
    """

    dataset: str
    address: str

    @property
    def folder(self) -> Path | None:
        """The folder on this machine; None for a bucket."""
        if self.address.startswith("file://"):
            return Path(unquote(urlsplit(self.address).path))
        return None if "://" in self.address else Path(self.address)


def find_landing_addresses(names: Sequence[str], project: Path) -> list[LandingAddress]:
    """Look up where datasets arrive.

    Args:
        names: plain or dotted names; none means all that the project declares.
        project: folder of the project; relative landing places are under it.

    Returns:
        A place for each dataset, without doubles.

    Raises:
        ConfigError: no such dataset, or none is declared.
    """
    wanted = list(names) or list(declared(project).datasets)
    if not wanted:
        raise ConfigError(
            f"no deployment of {project / PROJECT_FILE} has a parameter `dataset`, so there is nothing to watch: "
            "name a dataset, or add a deployment of the flow prefect_mlops.flows.ingest.ingest"
        )
    command = [sys.executable, "-m", "prefect_mlops.deployments.watch.addresses", str(project), *wanted]
    done = subprocess.run(  # noqa: S603 - this Python and this module
        command, cwd=project, capture_output=True, text=True, timeout=LOOKUP_SECONDS, check=False
    )
    last = done.stdout.strip().rpartition("\n")[2]  # a project's module may print when it is imported
    try:
        answer = json.loads(last)
    except ValueError:
        raise ConfigError(f"looking up {', '.join(wanted)} failed: {done.stderr.strip()[-500:]}") from None
    if "error" in answer:
        raise ConfigError(answer["error"])
    return list(dict.fromkeys(LandingAddress(**place) for place in answer["places"]))


def _main(project: str, *names: str) -> None:
    try:
        specs = [resolve_dataset(name, Path(project))[1] for name in names]
        answer = {"places": [asdict(LandingAddress(spec.name, spec.landing_place)) for spec in specs]}
    except MLOpsError as error:
        print(json.dumps({"error": str(error)}))
    else:
        print(json.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
