"""Prints tables for people and JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from fiftyone_milvus.cli import waiting

_SHORT, _GAP = 12, 3
_UNLIMITED = 10_000
_NARROW = 60
"""Up to so many columns, a terminal shows a table that does not fit as a list."""

_output: TextIO | None = None


class _Stderr:
    """The standard error, but not the same object as ``sys.stderr``.

    A progress bar of FiftyOne redirects all log handlers whose stream is ``sys.stdout``, and
    Python's own handler for the standard error refuses that.
    """

    def write(self, text: str) -> int:
        waiting.clear()
        return sys.stderr.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


_stderr = cast(TextIO, _Stderr())


@contextmanager
def only_results() -> Iterator[None]:
    """Keeps the standard output for what :func:`echo` and the other functions here print.

    FiftyOne's log lines and progress bars, which it writes there, go to the standard error.
    """
    global _output
    before = _output, sys.stdout
    _output, sys.stdout = sys.stdout, _stderr
    try:
        yield
    finally:
        # A progress bar that was interrupted may have left another stream
        _output, sys.stdout = before


Json = Annotated[bool, typer.Option("--json", help="Print JSON; messages go to stderr.")]


def echo(text: Any) -> None:
    """Prints a line of a command's result."""
    typer.echo(text, file=_output)


def show(value: Any, as_json: bool, text: Any = None) -> None:
    """Prints a value as JSON, or as text.

    Args:
        value: see :func:`print_json`
        as_json: whether to print JSON
        text (None): the text; by default, the value's own
    """
    if as_json:
        print_json(value)
    else:
        echo(value if text is None else text)


def print_json(value: Any) -> None:
    """Prints a dataclass, or a value of JSON types, paths and numpy numbers."""
    print(json.dumps(_plain(value), indent=2, default=_as_text), file=_output, flush=True)


@contextmanager
def unlogged(module: str) -> Iterator[None]:
    """Silences the log of a module, if the command prints the same."""
    logger = logging.getLogger(f"fiftyone_milvus.{module}")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None
) -> None:
    """Prints a table; numbers are aligned right. A narrow terminal gets a list instead.

    Args:
        columns: the column heads
        rows: for each column a string, a number, or None for an empty cell
        title (None): of the table
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Data may contain [brackets] and :colons:, which are no markup
    console = Console(file=_output, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        # Without a terminal, nothing is cut to its width
        console.width = _UNLIMITED
    rows = list(rows)
    shown = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *shown)]
    # If there is room, short columns keep their width, and long ones are folded
    least = [min(width, _SHORT) for width in widths]
    if console.width <= _NARROW and sum(widths) + _GAP * len(widths) > console.width:
        _print_list(columns, shown, title)
        return
    roomy = sum(least) + _GAP * len(least) <= console.width
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for at, name in enumerate(columns):
        numeric = all(_is_number(row[at]) for row in rows if row[at] is not None)
        table.add_column(
            name,
            justify="right" if rows and numeric else "left",
            overflow="fold",
            min_width=least[at] if roomy else None,
        )
    for row in shown:
        table.add_row(*row)
    console.print(table)


def show_rows(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    text: str,
    as_json: bool,
    *,
    numbered: bool = False,
    **facts: Any,
) -> None:
    """Prints what was found as JSON, or as a table with a line of text below it.

    Args:
        name: of the rows in JSON
        rows: dicts with the same keys, which are the column heads
        text: the line
        as_json: whether to print JSON
        numbered (False): whether the table numbers its rows
        **facts: what else JSON has
    """
    if as_json:
        print_json({name: rows, **facts})
        return
    if rows:
        columns = [key.replace("_", " ") for key in rows[0]]
        cells = [list(row.values()) for row in rows]
        if numbered:
            columns = ["", *columns]
            cells = [[at, *row] for at, row in enumerate(cells, 1)]
        print_table(columns, cells)
    echo(text)


def _print_list(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> None:
    if title is not None:
        echo(title)
    for row in rows:
        echo("")
        print_facts({name or "no.": cell for name, cell in zip(columns, row)})


def print_facts(facts: Mapping[str, Any]) -> None:
    """Prints a line for each name and value; leaves out None and empty values."""
    shown = {name: _cell(value) for name, value in facts.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        echo(f"{name:<{width}}  {value}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if not f.name.startswith("_")]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value


def _as_text(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
