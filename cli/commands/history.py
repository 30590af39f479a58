"""``prefect-mlops history``: who was champion when, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from prefect_mlops.cli._terminal import age, columns, escaped, paragraph
from prefect_mlops.cli._terminal import moment as _exact
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.promotion.periods import ChampionPeriod

MAX_OTHERS = 20  # decisions beside the champions on one screen; all of them are in --json
INDENT = 4
LONGEST_DATE = len("2026-03-01")


def history(
    model: Annotated[str, typer.Argument(help="Registered model, or the dotted name of its spec.")],
    at: Annotated[
        str,
        typer.Option(metavar="DATE", help="Who was champion then: 2026-03-01, 2026-03-01T12:00, local unless +00:00."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; times in UTC.")] = False,
) -> None:
    """Show who was champion when and why, and what else was decided.

    One line for each champion, the newest last, with what made it champion, who did and why. Below: challengers that
    were refused, requests for approval, the breaker, failed runs, repairs of the alias. Turns, drift and backfills are
    in `prefect-mlops audit`. Reads the lake only; needs neither MLflow nor a Prefect server.

    See all champions:

        prefect-mlops history flights-late

    Ask who was champion on a day, or at a minute; times without a zone are those of this machine:

        prefect-mlops history flights-late --at 2026-03-01

        prefect-mlops history flights-late --at 2026-03-01T12:00+00:00
    """
    from prefect_mlops.cli._names import find_history
    from prefect_mlops.core.promotion.periods import champion_periods, other_decisions, periods_between

    span = _span(at) if at else None
    name, entries = find_history(model)
    found = champion_periods(entries)
    if span is not None:
        then = periods_between(found, span.start, span.end)
        answer = {"model": name, "from": _utc(span.start), "to": _utc(span.end), "champions": _dumped(then)}
        typer.echo(json.dumps(answer) if as_json else "\n".join(_then(name, span, then, found)))
        return
    others = other_decisions(entries)
    if as_json:
        typer.echo(json.dumps({"model": name, "champions": _dumped(found), "others": _dumped(others)}))
    else:
        typer.echo("\n".join(_lines(name, found, others)))


class Span(NamedTuple):
    """A day or a moment that was asked for, with a zone."""

    start: datetime
    end: datetime


def _span(text: str) -> Span:
    """Read a date, which means the whole day, or a time."""
    written = text.strip().replace("Z", "+00:00")
    try:
        time = datetime.fromisoformat(written)
        end = time + timedelta(days=1, microseconds=-1) if len(written) <= LONGEST_DATE else time
        span = Span(time.astimezone(), end.astimezone())  # without a zone it is taken for local
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"--at {text!r:.40} is no date: write 2026-03-01, or 2026-03-01T12:00") from None
    if span.start > datetime.now(timezone.utc):
        raise ConfigError(f"--at {text!r:.40} has not come yet: leave it out to see who is champion now")
    return span


def _then(name: str, span: Span, then: Sequence[ChampionPeriod], found: Sequence[ChampionPeriod]) -> Iterator[str]:
    when = f"at {_exact(span.start)}" if span.start == span.end else f"on {span.start:%Y-%m-%d}"
    when = f"{when} (local time, {_zone(span.start)})"
    if not then:
        first = f" The first one was v{found[0].version}, from {_exact(found[0].since)}." if found else ""
        yield f"{escaped(name)} had no champion {when}.{first}"
        return
    yield f"Champion of {escaped(name)} {when}: {', then '.join(f'v{period.version}' for period in then)}"
    for period in then:
        yield ""
        until = _exact(period.until) if period.until else "now"
        instead = f", in place of v{period.replaced}" if period.replaced else ""
        yield f"v{period.version} from {_exact(period.since)} until {until}"
        yield from paragraph(f"{period.how.replace('_', ' ')} by {period.by}{instead}", indent=INDENT)
        yield from _why(period.reason, period.comment)


def _lines(name: str, found: Sequence[ChampionPeriod], others: Sequence[Entry]) -> Iterator[str]:
    from prefect_mlops.core.promotion.periods import comment_on

    now = f"v{found[-1].version} is champion, for {age(found[-1].since)}" if found else "there is no champion yet"
    yield f"{escaped(name)}: {now}. Times are local ({_zone(datetime.now().astimezone())})."
    if found:
        yield ""
        rows = [(f"v{one.version}", *_from_to(one), one.how.replace("_", " "), one.by) for one in found]
        texts = [list(_why(one.reason, one.comment)) for one in found]
        yield from _with_notes(("CHAMPION", "FROM", "TO", "HOW", "BY"), rows, texts)
    shown = others[-MAX_OTHERS:]
    if shown:
        yield ""
        more = len(others) - len(shown)
        yield f"Also decided{f' ({more:,} older ones are in --json)' if more else ''}:"
        when = [
            (f"v{one.version}" if one.version else "", _clock(one.at), one.kind.replace("_", " "), one.by)
            for one in shown
        ]
        texts = [list(_why(one.reason, comment_on(one))) for one in shown]
        yield from _with_notes(("VERSION", "WHEN", "WHAT", "BY"), when, texts)


def _with_notes(headers: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align rows, with a text that fits the terminal under each."""
    header, *lines = columns(headers, rows)
    yield header
    for line, text in zip(lines, texts, strict=True):
        yield line
        yield from text


def _why(reason: str, comment: str) -> Iterator[str]:
    if reason:
        yield from paragraph(reason, indent=INDENT)
    if comment:
        yield from paragraph(f"Comment: {comment}", indent=INDENT)


def _from_to(one: ChampionPeriod) -> tuple[str, str]:
    return _clock(one.since), _clock(one.until) if one.until else "now"


def _clock(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M")


def _zone(time: datetime) -> str:
    return time.strftime("UTC%z") if time.utcoffset() else "UTC"


def _utc(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat()


def _dumped(found: Sequence[ChampionPeriod] | Sequence[Entry]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json") for one in found]
