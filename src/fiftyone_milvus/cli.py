"""The command line, ``fiftyone-milvus``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiftyone_milvus.errors import FiftyOneMilvusError

if TYPE_CHECKING:
    from fiftyone_milvus.embedded import Status
    from fiftyone_milvus.mongod import Mongod

# Commands import what they need when they run: FiftyOne takes seconds, `--help` must not

_EXAMPLES = """\
Examples:

  fiftyone-milvus demo           index and search real images

  fiftyone-milvus demo --app     ... and open the result in the App

  fiftyone-milvus enable         use it wherever backend="milvus" is asked for

  fiftyone-milvus plugin install ... and the plugin for the App

  fiftyone-milvus status         what runs, and where
"""

app = typer.Typer(
    name="fiftyone-milvus",
    help="Milvus as FiftyOne's vector engine.",
    epilog=_EXAMPLES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PathArgument = Annotated[
    Path | None,
    typer.Argument(help="The `.db` directory.", show_default="beside FiftyOne's database"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Runs the command line; errors of ours are one line on stderr and exit code 1."""
    try:
        app()
    except FiftyOneMilvusError as e:
        typer.secho(f"Error: {e}", fg=typer.colors.RED, err=True)
        sys.exit(1)


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


@app.command(epilog="Example: fiftyone-milvus enable && fiftyone app launch quickstart")
def enable() -> None:
    """Make `backend="milvus"` this package's in every process, the App's server included.

    Sets `similarity_backends.milvus.config_cls` in FiftyOne's brain config file and keeps
    everything else that is in it.
    """
    from fiftyone_milvus import takeover

    changed = takeover.enable()
    typer.echo(
        f'backend="milvus" is {"now" if changed else "already"} fiftyone-milvus in every process '
        f"({takeover.config_path()})"
    )


@app.command(epilog="Example: fiftyone-milvus disable && pip uninstall fiftyone-milvus")
def disable() -> None:
    """Undo `enable`. Do this before you uninstall the package."""
    from fiftyone_milvus import takeover

    changed = takeover.disable()
    typer.echo(
        f'backend="milvus" is {"again" if changed else "already"} FiftyOne\'s built-in '
        f"({takeover.config_path()})"
    )


@app.command(epilog="Example: fiftyone-milvus status --json")
def status(as_json: _Json = False) -> None:
    """Show whose `backend="milvus"` is, the embedded engines that run, and FiftyOne's database."""
    from fiftyone_milvus import embedded, mongod, takeover

    database = mongod.find_mongod()
    services = embedded.list_services()
    if as_json:
        report = {
            "enabled": takeover.is_enabled(),
            "brain_config": str(takeover.config_path()),
            "services": [dataclasses.asdict(service) for service in services],
            "mongod": None if database is None else dataclasses.asdict(database),
        }
        typer.echo(json.dumps(report, indent=2, default=str))
        return

    if takeover.is_enabled():
        whose = f"fiftyone-milvus, in every process ({takeover.config_path()})"
    else:
        whose = "FiftyOne's built-in, unless a process imports fiftyone_milvus"
    if database is None:
        mongo = "none; run `fiftyone-milvus setup`"
    elif database.path is None:
        mongo = "the one that FIFTYONE_DATABASE_URI or FiftyOne's config names"
    else:
        mongo = f"mongod {database.version} ({database.path})"
    typer.echo(f'backend="milvus"   {whose}')
    typer.echo(f"FiftyOne database  {mongo}")
    _print_services(services)


plugin = typer.Typer(no_args_is_help=True, help="The plugin for the FiftyOne App.")
app.add_typer(plugin, name="plugin")


@plugin.command("install", epilog="Example: fiftyone-milvus plugin install && fiftyone app launch")
def plugin_install(
    copy: Annotated[bool, typer.Option("--copy", help="Copy it even where links work.")] = False,
) -> None:
    """Put the plugin into FiftyOne's plugins directory, where every App finds it."""
    from fiftyone_milvus.plugin import installing

    done = installing.install(copy=copy)
    typer.echo(f"Installed the App's plugin as a {done.how} ({done.path}); reload the App's page")


@plugin.command("uninstall", epilog="Example: fiftyone-milvus plugin uninstall")
def plugin_uninstall() -> None:
    """Take the plugin out of FiftyOne's plugins directory."""
    from fiftyone_milvus.plugin import installing

    done = installing.uninstall()
    typer.echo("Uninstalled the App's plugin" if done else "The App's plugin is not installed")


@plugin.command("status", epilog="Example: fiftyone-milvus plugin status --json")
def plugin_status(as_json: _Json = False) -> None:
    """Show whether FiftyOne finds the plugin."""
    from fiftyone_milvus.plugin import installing

    found = installing.status()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2, default=str))
    elif not found.installed:
        typer.echo(f"not installed in {found.path.parent}; run `fiftyone-milvus plugin install`")
    elif not found.current:
        typer.echo(
            f"a {found.how} of another installation ({found.path}); run `fiftyone-milvus plugin "
            "install`"
        )
    else:
        typer.echo(f"installed as a {found.how} ({found.path})")


@app.command(epilog="Example: fiftyone-milvus serve ~/vectors.db --idle 3600")
def serve(
    path: _PathArgument = None,
    idle: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="End after so long without a call; 0: never."),
    ] = 0,
) -> None:
    """Run an embedded engine in the foreground, until Ctrl-C.

    Not needed in everyday use: whoever needs the engine first starts it.
    """
    from fiftyone_milvus import embedded

    embedded.serve(path or embedded.default_path(), idle_seconds=idle, foreground=True)


@app.command(epilog="Example: fiftyone-milvus stop ~/vectors.db")
def stop(
    path: _PathArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop every one that runs.")] = False,
) -> None:
    """Stop an embedded engine. The next call that needs it starts it again."""
    from fiftyone_milvus import embedded

    if everything and path is not None:
        raise typer.BadParameter("give a PATH or --all, not both")

    if everything:
        paths = [service.path for service in embedded.list_services()]
    else:
        paths = [path or embedded.default_path()]
    stopped = [p for p in paths if embedded.stop(p)]
    for p in stopped:
        typer.echo(f"Stopped {p}")
    if not stopped:
        typer.echo("Nothing runs" if everything else f"Nothing runs at {paths[0]}")


@app.command(epilog="Example: fiftyone-milvus setup")
def setup() -> None:
    """Make sure that FiftyOne has a database: install `mongod` where it has none."""
    database = _ensure_mongod()
    if database.path is None:
        typer.echo("FiftyOne uses the database that its configuration names")
    else:
        typer.echo(f"FiftyOne uses mongod {database.version} ({database.path})")


@app.command(
    epilog="Example: fiftyone-milvus demo --dataset quickstart --model clip-vit-base32-torch"
)
def demo(
    dataset: Annotated[
        str,
        typer.Option(help="`digits` (bundled), or a dataset of FiftyOne's zoo with detections."),
    ] = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of FiftyOne's zoo.",
            show_default="for digits, one that is trained on the spot",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What to search for by text.", show_default="fits the dataset"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where the contact sheet, the page and the code go.")
    ] = Path("fiftyone-milvus-demo"),
    open_app: Annotated[bool, typer.Option("--app", help="Open the result in the App.")] = False,
    port: Annotated[int, typer.Option(help="The App's port.")] = 5151,
    address: Annotated[str, typer.Option(help="The address the App listens on.")] = "127.0.0.1",
) -> None:
    """Index real images and patches, and search them in every way that FiftyOne has.

    By default the images are the handwritten digits that come with scikit-learn: nothing is
    downloaded. Prints each step as code to paste, and leaves a picture of what it found.
    """
    from fiftyone_milvus.demo import run

    _ensure_mongod()
    run(
        dataset=dataset,
        model=model,
        prompt=prompt,
        out=out,
        app=open_app,
        port=port,
        address=address,
    )


def _ensure_mongod() -> Mongod:
    from fiftyone_milvus import mongod

    if mongod.find_mongod() is None:
        typer.echo(f"FiftyOne has no mongod: installing {mongod.FALLBACK_PACKAGE}")
    return mongod.ensure_mongod()


def _print_services(services: list[Status]) -> None:
    if not services:
        typer.echo("Embedded engines   none running; the first call starts one")
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Embedded engines", title_justify="left")
    table.add_column("path", overflow="fold")
    table.add_column("pid", justify="right")
    table.add_column("address", overflow="fold")
    table.add_column("clients", justify="right")
    table.add_column("up", justify="right")
    for service in services:
        table.add_row(
            str(service.path),
            str(service.pid),
            service.address,
            str(service.clients),
            _duration(service.uptime_seconds),
        )
    Console().print(table)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


if __name__ == "__main__":
    main()
