"""Tables of results as text."""

from __future__ import annotations

from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table: the first column flush left, the others flush right."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]


def milliseconds(seconds: float | None) -> str:
    """Returns seconds as text, in milliseconds; empty for None."""
    return "" if seconds is None else f"{seconds * 1e3:.2f}"
