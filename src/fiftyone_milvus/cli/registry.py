"""The decorator that makes a function a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import typer

from fiftyone_milvus.cli import output

F = TypeVar("F", bound=Callable[..., Any])

SET_UP, MILVUS, INDEXES, SEARCH, RECALL, MOVING = _PANELS = (
    "Set up", "Milvus", "Indexes", "Search", "Recall", "Moving",
)  # fmt: skip

_commands: list[tuple[str, str | None, str, Callable[..., Any]]] = []


def command(panel: str, *examples: str, name: str | None = None) -> Callable[[F], F]:
    """Makes a function a command.

    Args:
        panel: the group of commands in ``--help``
        examples: command lines, without the program
        name (None): the command's, if it is not the function's
    """
    lines = [f"fiftyone-milvus {example}" for example in examples]
    epilog = f"Example: {lines[0]}" if len(lines) == 1 else "\n\n  ".join(["Examples:", *lines])

    def decorate(function: F) -> F:
        _commands.append((panel, name, epilog, function))
        return function

    return decorate


def add_commands(app: typer.Typer) -> None:
    """Adds all commands to an app, panel by panel."""
    for panel, name, epilog, function in sorted(_commands, key=lambda c: _PANELS.index(c[0])):
        app.command(name, rich_help_panel=panel, epilog=epilog)(with_results(function))


def with_results(function: F) -> F:
    """Returns a command whose standard output has its results only, if they can be JSON."""
    if "as_json" not in inspect.signature(function).parameters:
        return function

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with output.only_results():
            return function(*args, **kwargs)

    return cast(F, run)
