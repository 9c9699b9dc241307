"""Results as Markdown tables and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a ratio is to be.

    Attributes:
        text: what is compared
        wanted: such as ``"<= 1.15"``
        found: the ratio of the fastest repetitions
        median: the median ratio
        unit: ``"x"`` for ratios, ``""`` for recall
    """

    text: str
    wanted: str
    found: float
    median: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        sign, limit = self.wanted.split()
        return self.found <= float(limit) if sign == "<=" else self.found >= float(limit)


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        name: of its place in the document
        columns: their titles
        rows: their cells, as text
        goals: that these results decide
        raw: whatever else is worth keeping, for the JSON file
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    raw: Any = field(default=None)

    def markdown(self) -> str:
        return _markdown(self.columns, self.rows)


def ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def s(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"


def times(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def write(path: Path, tables: Sequence[Table], machine: dict[str, str]) -> None:
    """Puts the tables into their places in a Markdown file, and everything into a JSON beside it.

    A place is what stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; a table that has
    none is appended. Tables of cases that were not run stay.
    """
    record = path.with_suffix(".json")
    known: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    for table in tables:
        known[table.name] = {
            "machine": machine,
            "columns": list(table.columns),
            "rows": [list(row) for row in table.rows],
            "goals": [asdict(goal) for goal in table.goals],
            "raw": table.raw,
        }
    record.write_text(json.dumps(known, indent=1) + "\n")

    goals = [Goal(**goal) for name in known for goal in known[name]["goals"]]
    texts = {table.name: table.markdown() for table in tables}
    texts["goals"] = _goals(goals)
    texts["machine"] = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    document = path.read_text() if path.exists() else "# Performance\n"
    for name, text in texts.items():
        place = f"<!-- table: {name} -->"
        block = f"{place}\n{text}\n<!-- end -->"
        if place in document:
            pattern = re.escape(place) + r".*?<!-- end -->"
            document = re.sub(pattern, block.replace("\\", r"\\"), document, flags=re.DOTALL)
        else:
            document += f"\n{block}\n"
    path.write_text(document)


def _goals(goals: Sequence[Goal]) -> str:
    rows = []
    for g in goals:
        found = (times(g.found), times(g.median)) if g.unit else (f"{g.found:.4f}", "")
        wanted = g.wanted.replace("<=", "≤").replace(">=", "≥") + g.unit
        rows.append((g.text, wanted, *found, "yes" if g.met else "**no**"))
    return _markdown(("what", "goal", "fastest runs", "median", "met"), rows)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
