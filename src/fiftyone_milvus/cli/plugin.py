"""The commands that install the plugin."""

from __future__ import annotations

from typing import Annotated

import typer

from fiftyone_milvus.cli.output import Json, show
from fiftyone_milvus.cli.registry import with_results

app = typer.Typer(no_args_is_help=True, help="The plugin for the FiftyOne App.")


@app.command("install", epilog="Example: fiftyone-milvus plugin install && fiftyone app launch")
@with_results
def install(
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy it even if a link can be made.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Install the plugin in FiftyOne's plugins directory, where every App finds it."""
    from fiftyone_milvus.plugin import installation

    done = installation.install(copy=copy)
    text = f"Installed the App's plugin as a {done.how} ({done.path}); reload the App's page"
    show(done, as_json, text)


@app.command("uninstall", epilog="Example: fiftyone-milvus plugin uninstall")
@with_results
def uninstall(as_json: Json = False) -> None:
    """Remove the plugin from FiftyOne's plugins directory."""
    from fiftyone_milvus.plugin import installation

    done = installation.uninstall()
    text = "Uninstalled the App's plugin" if done else "The App's plugin is not installed"
    show({"changed": done}, as_json, text)


@app.command("status", epilog="Example: fiftyone-milvus plugin status --json")
@with_results
def status(as_json: Json = False) -> None:
    """Show whether FiftyOne finds the plugin."""
    from fiftyone_milvus.plugin import installation

    show(installation.status(), as_json)
