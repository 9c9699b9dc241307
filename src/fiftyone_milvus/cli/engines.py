"""The commands for embedded engines: status, serve, stop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import output
from fiftyone_milvus.cli.output import Json, print_facts, print_json, print_table, show
from fiftyone_milvus.cli.registry import MILVUS, command
from fiftyone_milvus.errors import EmbeddedServiceError

_Path = Annotated[
    Path | None,
    typer.Argument(help="The data directory.", show_default="next to FiftyOne's database"),
]


@command(MILVUS, "status --json")
def status(as_json: Json = False) -> None:
    """Show what `backend="milvus"` is, the running embedded engines, and FiftyOne's database."""
    from fiftyone_milvus import embedded
    from fiftyone_milvus.setup import mongod, takeover

    database = mongod.find_mongod()
    services = embedded.list_services()
    enabled = takeover.is_enabled()
    if as_json:
        path = takeover.config_path()
        facts = {"enabled": enabled, "brain_config": path, "services": services}
        print_json({**facts, "mongod": database})
        return
    whose = "FiftyOne's built-in, unless a process imports fiftyone_milvus"
    if enabled:
        whose = f"fiftyone-milvus, in every process ({takeover.config_path()})"
    if database is None:
        mongo = "none; run `fiftyone-milvus setup`"
    elif database.path is None:
        mongo = "the one in FIFTYONE_DATABASE_URI or FiftyOne's config"
    else:
        mongo = f"mongod {database.version} ({database.path})"
    facts = {'backend="milvus"': whose, "FiftyOne database": mongo}
    if not services:
        facts["Embedded engines"] = "none running; " + (
            "the brain config names a server" if _has_server() else "the first use starts one"
        )
    print_facts(facts)
    if services:
        print_table(
            ("path", "pid", "address", "clients", "up", "mode"),
            [
                (str(s.path), str(s.pid), s.address, "", "", "does not answer")
                if s.error
                else (
                    str(s.path),
                    str(s.pid),
                    s.address,
                    s.clients,
                    _duration(s.uptime_seconds),
                    s.mode,
                )
                for s in services
            ],
            title="Embedded engines",
        )
        for service in services:
            if service.warning:
                output.echo(f"{service.path}: {service.warning}")


@command(MILVUS, "serve ~/vectors.db --idle 3600")
def serve(
    path: _Path = None,
    idle: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Stop after this many seconds without a call; 0 for never.",
        ),
    ] = 0,
) -> None:
    """Run an embedded engine in the foreground, until Ctrl-C.

    Usually not needed: the first process that uses the engine starts it.
    """
    from fiftyone_milvus import embedded

    embedded.serve(path or embedded.default_path(), idle_seconds=idle, foreground=True)


@command(MILVUS, "stop ~/vectors.db")
def stop(
    path: _Path = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all that run.")] = False,
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
    stopped, problems = [], []
    for each in paths:
        try:
            if embedded.stop(each):
                stopped.append(each)
        except EmbeddedServiceError as error:  # noqa: PERF203
            if len(paths) == 1:
                raise
            problems.append(str(error))
    text = "\n".join(f"Stopped {p}" for p in stopped)
    nothing = "No service is running" + ("" if everything else f" at {paths[0]}")
    show({"stopped": stopped}, as_json, text or nothing)
    if problems:
        # The others were stopped; these are left
        raise EmbeddedServiceError("; ".join(problems))


def _has_server() -> bool:
    from fiftyone_milvus.setup import takeover

    # Not the data directory of an embedded engine
    uri = str(takeover.parameter("uri") or "")
    return re.match(r"(https?|tcp|grpc|unix):|[\w.-]+:\d+$", uri) is not None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
