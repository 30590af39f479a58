"""Has a dataset kept its freshness promise?"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

from prefect import flow

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ledger import arrivals
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.dataset import load_dataset
from prefect_mlops.flows.run_summary import summarise_run
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks.loop import emit_late_event


@flow(name="check-freshness", flow_run_name="check-freshness-{dataset}")
def check_freshness(dataset: Annotated[str, label("Dataset")]) -> Report:
    """Raise the event ``prefect-mlops.data.late`` when nothing was committed for longer than promised.

    Args:
        dataset: Dotted name of the DatasetSpec; its late_after is the promise.

    Returns:
        A ``data`` report with one check. A late dataset does not fail the run.

    Raises:
        ConfigError: no such dataset, or one that promises nothing.
        BackendError: storage failed.
    """
    spec = load_dataset(dataset)
    with summarise_run("check-freshness", spec.name) as summary:
        if spec.late_after is None:
            raise ConfigError(f"dataset {spec.name!r} promises nothing: give its DatasetSpec a late_after")
        taken = [arrival for arrival in arrivals(spec.name) if arrival.version is not None]
        report = freshness(spec.name, taken[-1].at if taken else None, promise=spec.late_after)
        summary.title = "fresh" if report.passed else "late"
        summary.say(*(check.sentence for check in report.checks))
        if not report.passed:
            emit_late_event(spec.name, report)
        return report


def freshness(dataset: str, last: datetime | None, *, promise: timedelta, now: datetime | None = None) -> Report:
    """Compare the time of the last commit with the promise.

    Args:
        dataset: its name.
        last: when rows were committed last; None for never.
        promise: longest time without a commit.
        now: the time of the check.
    """
    age = None if last is None else (now or datetime.now(timezone.utc)) - last
    check = Check(
        id="freshness",
        name="data arrived in time",
        passed=age is not None and age <= promise,
        observed="nothing was ever committed" if age is None else f"last commit {in_words(age)} ago",
        expected=f"one within {in_words(promise)}",
        value=None if age is None else age.total_seconds(),
        threshold=promise.total_seconds(),
    )
    return Report(kind="freshness", subject=dataset, checks=(check,))


def in_words(time: timedelta) -> str:
    """Say a length of time in its two largest units."""
    minutes = round(time.total_seconds() / 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{amount} {unit}" for amount, unit in ((days, "d"), (hours, "h"), (rest, "min")) if amount]
    return " ".join(parts[:2]) or "less than a minute"
