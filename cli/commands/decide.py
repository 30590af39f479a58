"""``prefect-mlops decide``: answer the request for approval of a challenger."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Answer(str, Enum):
    """What a person can say."""

    approve = "approve"
    refuse = "refuse"


def decide(
    model: Annotated[str, typer.Argument(help="Plain name as in the prefect.yaml, or dotted name of the spec.")],
    reply: Annotated[Answer, typer.Argument(metavar="approve|refuse", help="The answer.")],
    name: Annotated[str, typer.Option("--name", help="Who answers. [default: your login name]")] = "",
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why; kept in the history.")] = "",
    version: Annotated[
        int, typer.Option("--version", min=0, help="The version you have looked at. [default: whichever waits]")
    ] = 0,
    project: Annotated[Path, typer.Option(help="Folder of the project, with its prefect.yaml.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Approve or refuse the challenger that waits for an answer.

    Runs the flow `decide` here, on the Prefect server that PREFECT_API_URL names, or on one of its own that ends with
    it. Exit code 1: it was approved, but did not pass its smoke test or lost against a newer champion; or another
    person answered at the same time.

    Say yes to what you have looked at:

        prefect-mlops decide flights-late approve --version 5 --name anna --comment "looks right to me"
    """
    from prefect_mlops.cli._project import enter, quieten, run
    from prefect_mlops.cli._promotion import answer, open_registry, who
    from prefect_mlops.deployments.project import resolve_model

    quieten()
    enter(project)
    open_registry()
    person = who(name)
    dotted, spec = resolve_model(model)
    with run("deciding"):
        from prefect_mlops.flows.decide import decide as flow

        done = flow(dotted, reply.value, person, comment=comment, version=version)
    sentence = f"{spec.name}: v{done.version} {done.decision}, {person} said {reply.value}. {done.reason}"
    answer({**done.model_dump(mode="json"), "by": person, "answer": reply.value}, sentence, as_json=as_json)
    if reply is Answer.approve and done.decision != "promoted":
        raise typer.Exit(1)
