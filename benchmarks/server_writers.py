"""Flow runs that live at the same time, on Prefect's server as it starts itself and as the local stack starts it.

    python benchmarks/server_writers.py --runs 60 --clients 1 3 12

Both keep an SQLite file. Each client is a thread that creates a flow run, leads it through its states and labels it, as
a worker and its process do, and asks again after two seconds where it is refused, as Prefect's client does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from prefect_mlops.deployments.local import servers
from prefect_mlops.deployments.local.stack import local_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

AGAIN_SECONDS, TRIES = 2.0, 60
LIVES = ("PENDING", "RUNNING", "COMPLETED")
NAMES = ("Prefect's own command", "the local stack")


class Client:
    """Asks, notes how long each answer took, and asks again where it was refused."""

    def __init__(self, api: str) -> None:
        """Take the server's address."""
        self.http = httpx.Client(base_url=api, trust_env=False, timeout=100)
        self.answers: list[float] = []
        self.refused = 0

    def ask(self, method: str, address: str, content: Any) -> Any:
        """Ask until it is answered."""
        for _ in range(TRIES):
            start = time.perf_counter()
            try:
                answer = self.http.request(method, address, json=content)
            except httpx.TransportError:
                answer = None
            self.answers.append(time.perf_counter() - start)
            if answer is not None and not answer.is_error:
                return answer.json() if answer.content else None
            self.refused += 1
            time.sleep(AGAIN_SECONDS)
        raise SystemExit(f"{method} {address} was refused {TRIES} times")

    def live(self, flow: str) -> None:
        """Let a flow run live."""
        run = self.ask("POST", "/flow_runs/", {"flow_id": flow, "state": {"type": "SCHEDULED"}})["id"]
        for state in LIVES:
            self.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": state}})
            self.ask("PATCH", f"/flow_runs/{run}/labels", {"was": state})


@contextmanager
def started(name: str) -> Iterator[str]:
    """Run a server; yields its address."""
    ours = servers.PREFECT

    def program(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
        command, own = ours.program(home, port)
        return [sys.executable, "-m", "prefect", "server", *command[command.index("start") :]], own

    servers.PREFECT = ours if name == NAMES[1] else dataclasses.replace(ours, program=program)
    try:
        with tempfile.TemporaryDirectory() as scratch, local_stack(Path(scratch) / "home") as stack:
            yield stack.prefect_api_url
    finally:
        servers.PREFECT = ours


def measure(api: str, *, clients: int, runs: int) -> dict[str, Any]:
    """Let so many clients share so many runs."""
    each = [Client(api) for _ in range(clients)]
    flow = each[0].ask("POST", "/flows/", {"name": "busy"})["id"]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda number: [each[number].live(flow) for _ in range(runs // clients)], range(clients)))
    answers = [seconds for client in each for seconds in client.answers]
    return {
        "clients": clients,
        "runs a second": round(runs // clients * clients / (time.perf_counter() - start), 2),
        "refused": sum(client.refused for client in each),
        "median answer, s": round(statistics.median(answers), 3),
        "longest answer, s": round(max(answers), 2),
    }


def main() -> None:
    """Measure both in turns and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=60, help="flow runs for each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 3, 12])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for _ in range(given.repeats):
        for name in NAMES:
            with started(name) as api:
                for clients in given.clients:
                    rows.append({"server": name, **measure(api, clients=clients, runs=given.runs)})
                    print(rows[-1], file=sys.stderr)
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    print("|", " | ".join(rows[0]), "|\n|", " | ".join("---" for _ in rows[0]), "|")
    for row in rows:
        print("|", " | ".join(map(str, row.values())), "|")


if __name__ == "__main__":
    main()
