"""The command line, ``fiftyone-milvus``.

Commands import FiftyOne only when they run, as that takes seconds, which ``--help`` must not.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

# The imports of commands register them
from fiftyone_milvus.cli import (  # noqa: F401
    arguments,
    arrivals,
    comparison,
    demo,
    doctor,
    duplicates,
    engines,
    indexes,
    labels,
    map,
    plugin,
    ratings,
    recall,
    registry,
    search,
    select,
    setup,
    transfer,
    waiting,
)
from fiftyone_milvus.dataset import availability
from fiftyone_milvus.errors import one_line

__all__ = ["TRACEBACK", "app", "main"]

TRACEBACK = "FIFTYONE_MILVUS_TRACEBACK"
"""The environment variable with which errors are printed with a traceback."""

_EPILOG = """\
Examples:

  fiftyone-milvus demo                      index and search real images

  fiftyone-milvus doctor                    check the installation and Milvus

  fiftyone-milvus enable                    make backend="milvus" this package, everywhere

  fiftyone-milvus plugin install            add the plugin to the App

  fiftyone-milvus create quickstart similar --model clip-vit-base32-torch

  fiftyone-milvus search quickstart similar --text "a cat" --open

Exit codes: 0 done; 1 an error in one line, or a finding; 2 wrong usage; 130 interrupted.
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

registry.add_commands(app)
app.add_typer(plugin.app, name="plugin", rich_help_panel=registry.SET_UP)


def main() -> None:
    """Runs the command line; errors are one line on stderr and exit code 1."""
    try:
        with availability.answering(say=_say):
            app(arguments.with_values(sys.argv[1:]))
    except KeyboardInterrupt:
        typer.secho("Interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        # Such as a missing torch, a database that does not answer, a full graphics card
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        typer.secho(f"Error: {one_line(error)}", fg=typer.colors.RED, err=True)
        sys.exit(1)


def _say(text: str) -> None:
    waiting.clear()
    typer.echo(text, err=True)


def _print_version(given: bool) -> None:
    if not given:
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
