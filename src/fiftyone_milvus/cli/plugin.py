"""The plugin for the App."""

from __future__ import annotations

from typing import Annotated

import typer

from fiftyone_milvus.cli.output import Json, print_json

app = typer.Typer(no_args_is_help=True, help="The plugin for the FiftyOne App.")


@app.command("install", epilog="Example: fiftyone-milvus plugin install && fiftyone app launch")
def install(
    copy: Annotated[bool, typer.Option("--copy", help="Copy it even where links work.")] = False,
    as_json: Json = False,
) -> None:
    """Put the plugin into FiftyOne's plugins directory, where every App finds it."""
    from fiftyone_milvus.plugin import installation

    done = installation.install(copy=copy)
    if as_json:
        print_json(done)
        return
    typer.echo(f"Installed the App's plugin as a {done.how} ({done.path}); reload the App's page")


@app.command("uninstall", epilog="Example: fiftyone-milvus plugin uninstall")
def uninstall(as_json: Json = False) -> None:
    """Take the plugin out of FiftyOne's plugins directory."""
    from fiftyone_milvus.plugin import installation

    done = installation.uninstall()
    if as_json:
        print_json({"changed": done})
        return
    typer.echo("Uninstalled the App's plugin" if done else "The App's plugin is not installed")


@app.command("status", epilog="Example: fiftyone-milvus plugin status --json")
def status(as_json: Json = False) -> None:
    """Show whether FiftyOne finds the plugin."""
    from fiftyone_milvus.plugin import installation

    found = installation.status()
    if as_json:
        print_json(found)
    else:
        typer.echo(found)
