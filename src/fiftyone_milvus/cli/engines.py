"""Embedded engines: status, serve, stop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fiftyone_milvus.cli.output import Json, print_facts, print_json, print_table

PANEL = "Milvus"

_Path = Annotated[
    Path | None,
    typer.Argument(help="The `.db` directory.", show_default="beside FiftyOne's database"),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(rich_help_panel=PANEL, epilog="Example: fiftyone-milvus status --json")(status)
    app.command(
        rich_help_panel=PANEL, epilog="Example: fiftyone-milvus serve ~/vectors.db --idle 3600"
    )(serve)
    app.command(rich_help_panel=PANEL, epilog="Example: fiftyone-milvus stop ~/vectors.db")(stop)


def status(as_json: Json = False) -> None:
    """Show whose `backend="milvus"` is, the embedded engines that run, and FiftyOne's database."""
    from fiftyone_milvus import embedded
    from fiftyone_milvus.setup import mongod, takeover

    database = mongod.find_mongod()
    services = embedded.list_services()
    enabled = takeover.is_enabled()
    if as_json:
        print_json(
            {
                "enabled": enabled,
                "brain_config": takeover.config_path(),
                "services": services,
                "mongod": database,
            }
        )
        return
    whose = "FiftyOne's built-in, unless a process imports fiftyone_milvus"
    if enabled:
        whose = f"fiftyone-milvus, in every process ({takeover.config_path()})"
    if database is None:
        mongo = "none; run `fiftyone-milvus setup`"
    elif database.path is None:
        mongo = "the one that FIFTYONE_DATABASE_URI or FiftyOne's config names"
    else:
        mongo = f"mongod {database.version} ({database.path})"
    facts: dict[str, Any] = {'backend="milvus"': whose, "FiftyOne database": mongo}
    if not services:
        facts["Embedded engines"] = "none running; " + (
            "the brain config names a server" if _has_server() else "the first call starts one"
        )
    print_facts(facts)
    if services:
        print_table(
            ("path", "pid", "address", "clients", "up", "mode"),
            [
                (str(s.path), str(s.pid), s.address, s.clients, _duration(s.uptime_seconds), s.mode)
                for s in services
            ],
            title="Embedded engines",
        )
        for service in services:
            if service.warning:
                typer.echo(f"{service.path}: {service.warning}")


def serve(
    path: _Path = None,
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


def stop(
    path: _Path = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop every one that runs.")] = False,
    as_json: Json = False,
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
    if as_json:
        print_json({"stopped": stopped})
        return
    for p in stopped:
        typer.echo(f"Stopped {p}")
    if not stopped:
        typer.echo("Nothing runs" if everything else f"Nothing runs at {paths[0]}")


def _has_server() -> bool:
    from fiftyone_milvus.setup import takeover

    # An address, and not the path of an embedded engine
    uri = str(takeover.parameter("uri") or "")
    return re.match(r"(https?|tcp|grpc|unix):|[\w.-]+:\d+$", uri) is not None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
