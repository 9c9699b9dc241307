"""The command that checks the installation and Milvus."""

from __future__ import annotations

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


@command(SET_UP, "doctor", "doctor --uri http://localhost:19530 --json")
def doctor(uri: Uri = None, as_json: Json = False) -> None:
    """Check FiftyOne, its database, the brain config, the plugin and Milvus.

    Writes, searches and drops a small collection of its own. Prints a line for each check, and what
    to do if something is wrong. Exits with 1 if there is a problem.
    """
    from fiftyone_milvus import doctor as examination

    verdicts = []
    for verdict in examination.examine(uri):
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
