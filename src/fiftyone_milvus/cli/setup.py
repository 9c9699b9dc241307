"""Whose ``backend="milvus"`` is: enable, disable, setup."""

from __future__ import annotations

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.output import Json, print_json

PANEL = "Set up"


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        rich_help_panel=PANEL,
        epilog="Example: fiftyone-milvus enable && fiftyone app launch quickstart",
    )(enable)
    app.command(
        rich_help_panel=PANEL,
        epilog="Example: fiftyone-milvus disable && pip uninstall fiftyone-milvus",
    )(disable)
    app.command(rich_help_panel=PANEL, epilog="Example: fiftyone-milvus setup")(setup)


def enable(as_json: Json = False) -> None:
    """Make `backend="milvus"` this package's in every process, the App's server included.

    Sets `similarity_backends.milvus.config_cls` in FiftyOne's brain config file and keeps
    everything else that is in it.
    """
    from fiftyone_milvus.setup import takeover

    changed = takeover.enable()
    if as_json:
        print_json({"changed": changed, "brain_config": takeover.config_path()})
        return
    typer.echo(
        f'backend="milvus" is {"now" if changed else "already"} fiftyone-milvus in every process '
        f"({takeover.config_path()})"
    )


def disable(as_json: Json = False) -> None:
    """Undo `enable`. Do this before you uninstall the package."""
    from fiftyone_milvus.setup import takeover

    changed = takeover.disable()
    if as_json:
        print_json({"changed": changed, "brain_config": takeover.config_path()})
        return
    typer.echo(
        f'backend="milvus" is {"again" if changed else "already"} FiftyOne\'s built-in '
        f"({takeover.config_path()})"
    )


def setup(as_json: Json = False) -> None:
    """Make sure that FiftyOne has a database: install `mongod` where it has none."""
    database = arguments.ensure_mongod()
    if as_json:
        print_json(database)
    elif database.path is None:
        typer.echo("FiftyOne uses the database that its configuration names")
    else:
        typer.echo(f"FiftyOne uses mongod {database.version} ({database.path})")
