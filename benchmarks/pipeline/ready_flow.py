"""Contestant e2: our ready flows on the example's spec, as a program.

python ready_flow.py ingest | train
"""

from __future__ import annotations

import sys

DATASET = "prefect_mlops.examples.flights.flights"
MODEL = "prefect_mlops.examples.flights.model"


def main(flow: str) -> None:
    """Run one of them."""
    if flow == "ingest":
        from prefect_mlops.flows.ingest import ingest

        ingest(DATASET)
    else:
        from prefect_mlops.flows.train import train

        train(MODEL, force=True)


if __name__ == "__main__":
    main(sys.argv[1])
