"""The command that checks the installation and Milvus."""

from __future__ import annotations

from typing import Annotated

import typer

from fiftyone_milvus.cli import output
from fiftyone_milvus.cli.arguments import Uri
from fiftyone_milvus.cli.output import Json, print_json
from fiftyone_milvus.cli.registry import SET_UP, command

_MARKS = {
    "ok": ("✓", typer.colors.GREEN),
    "warning": ("!", typer.colors.YELLOW),
    "problem": ("✗", typer.colors.RED),
}


@command(SET_UP, "doctor", "doctor --uri http://localhost:19530 --json", "doctor --repair")
def doctor(
    uri: Uri = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Repair damaged files of the embedded engine first: what is intact is brought "
            "back, and what is damaged is set aside.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check FiftyOne, its database, the brain config, the plugin and Milvus.

    Verifies all files of the embedded engine. Writes, searches and drops a small collection of its
    own. Prints a line for each check, and what to do if something is wrong. Exits with 1 if there
    is a problem.
    """
    from fiftyone_milvus import doctor as examination

    verdicts = []
    for verdict in examination.examine(uri, repair=repair):
        verdicts.append(verdict)
        if not as_json:
            mark, color = _MARKS[verdict.level]
            output.echo(f"{typer.style(mark, fg=color)} {verdict.check}: {verdict.found}")
            if verdict.remedy:
                output.echo(f"    → {verdict.remedy}")
    if as_json:
        print_json(verdicts)
    if any(verdict.level == "problem" for verdict in verdicts):
        raise typer.Exit(1)
