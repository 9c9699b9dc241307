"""The command line, ``fiftyone-milvus``.

Commands import what they need when they run: FiftyOne takes seconds, ``--help`` must not.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from fiftyone_milvus.cli import (
    demo,
    doctor,
    engines,
    indexes,
    output,
    plugin,
    recall,
    search,
    setup,
    transfer,
)

__all__ = ["TRACEBACK", "app", "main"]

TRACEBACK = "FIFTYONE_MILVUS_TRACEBACK"
"""The environment variable that has errors come with where in the code they are from."""

_EPILOG = """\
Examples:

  fiftyone-milvus demo                      index and search real images

  fiftyone-milvus doctor                    is everything there, and does it work?

  fiftyone-milvus enable                    use it wherever backend="milvus" is asked for

  fiftyone-milvus plugin install            ... and the plugin for the App

  fiftyone-milvus create quickstart similar --model clip-vit-base32-torch

  fiftyone-milvus search quickstart similar --text "a cat" --open

Exit codes: 0 done, 1 an error or a finding, in one line, 2 wrong usage, 130 interrupted.
"""

app = typer.Typer(
    name="fiftyone-milvus",
    help="Milvus as FiftyOne's vector engine.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _module in (demo, doctor, setup, engines, indexes, search, recall, transfer):
    _module.add_to(app)
app.add_typer(plugin.app, name="plugin", rich_help_panel="Set up")


def main() -> None:
    """Runs the command line; errors are one line on stderr and exit code 1."""
    try:
        with output.own_output():
            app()
    except KeyboardInterrupt:
        typer.secho("Interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        # Of torch that is missing, FiftyOne's database that is away, a graphics card that is full
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        typer.secho(f"Error: {_one_line(error)}", fg=typer.colors.RED, err=True)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    text, kind = " ".join(str(error).split()), type(error).__name__
    if not text:
        return kind
    # Ours, and FiftyOne's of names that do not exist and the like, say what is wrong by themselves
    return text if isinstance(error, ValueError) else f"{kind}: {text}"


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    from fiftyone_milvus._version import __version__

    parts = [f"{name} {version(name)}" for name in ("fiftyone", "pymilvus", "milvus-lite")]
    typer.echo(f"fiftyone-milvus {__version__} ({', '.join(parts)})")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions."),
    ] = False,
) -> None:
    """Milvus as FiftyOne's vector engine."""
