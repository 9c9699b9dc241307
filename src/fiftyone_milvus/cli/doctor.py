"""Whether everything is there and works: doctor."""

from __future__ import annotations

import typer

from fiftyone_milvus.cli.arguments import Uri
from fiftyone_milvus.cli.output import Json, print_json

_MARKS = {
    "ok": ("✓", typer.colors.GREEN),
    "warning": ("!", typer.colors.YELLOW),
    "problem": ("✗", typer.colors.RED),
    "skipped": ("-", None),
}


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(
        rich_help_panel="Set up",
        epilog="Examples:\n\n  fiftyone-milvus doctor\n\n"
        "  fiftyone-milvus doctor --uri http://localhost:19530 --json",
    )(doctor)


def doctor(uri: Uri = None, as_json: Json = False) -> None:
    """Check FiftyOne, its database, the brain config, the plugin and Milvus, and try them.

    Writes, searches and drops a small collection of its own. Each line is a verdict, with what to
    do where it is not good. Exits with 1 if there is a problem.
    """
    from fiftyone_milvus import doctor as examination

    worst = "ok"
    verdicts = []
    for verdict in examination.examine(uri):
        verdicts.append(verdict)
        if verdict.level == "problem":
            worst = "problem"
        if not as_json:
            mark, color = _MARKS[verdict.level]
            typer.echo(f"{typer.style(mark, fg=color)} {verdict.check}: {verdict.found}")
            if verdict.remedy:
                typer.echo(f"    → {verdict.remedy}")
    if as_json:
        print_json(verdicts)
    if worst == "problem":
        raise typer.Exit(1)
