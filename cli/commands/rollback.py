"""``prefect-mlops rollback``: make an earlier champion champion again, at once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import moment

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.history import Entry


def rollback(
    model_name: Annotated[str, typer.Argument(metavar="MODEL", help="Registered model.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="A sentence for those who ask later.")],
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="VERSION", min=1, help="A version that was champion. [default: the one before]"),
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who wants it. [default: your login name]")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make an earlier champion champion again, at once.

    Writes it into the model's history, then moves MLflow's alias. Nothing is loaded, no Prefect server is needed, and a
    training that is at work does not hold it up: it has to judge again. Killed and started again in the same words, it
    finishes what it began; for another reason, it goes further back. Exit code 1: the champion changed at the
    same time, or MLflow or the lake failed.

    Take the last promotion back:

        prefect-mlops rollback flights-late --why "predicts everything late since noon"

    Go back to a certain version:

        prefect-mlops rollback flights-late --to 3 --why "the last good one"
    """
    gc.disable()  # what the imports make stays, and a collection over it takes a fifth of this command's time
    from prefect_mlops.cli._project import quieten
    from prefect_mlops.cli._promotion import answer, history_of, open_registry, reason, who
    from prefect_mlops.core.promotion.decisions import known_rollback, rollback_target
    from prefect_mlops.core.promotion.history import champion_entry

    quieten()
    open_registry()
    why, by, before = reason(why), who(by), history_of(model_name)
    known = known_rollback(before, to=to, why=why, by=by)
    if dry_run:
        version, now = (known.version if known else rollback_target(model_name, before, to)), champion_entry(before)
        sentence = (
            f"{model_name}: v{version} would be champion, now it is v{now.version if now else '?'}. Nothing was done."
        )
        answer({"model": model_name, "version": version, "dry_run": True}, sentence, as_json=as_json)
        return
    from prefect_mlops.tracking.registry import roll_back

    entry = roll_back(model_name, to=to, why=why, by=by)
    values = {**entry.model_dump(mode="json"), "again": known is not None, "dry_run": False}
    answer(values, _sentence(entry, again=known is not None), as_json=as_json)


def _sentence(entry: Entry, *, again: bool) -> str:
    if again:
        return (
            f"{entry.model}: v{entry.version} is champion again since {moment(entry.at)} by this rollback, and it is "
            "finished. To go further back, name the version with --to, or give another reason."
        )
    return f"{entry.model}: v{entry.version} is champion again; v{entry.replaced} was taken back by {entry.by}."
