"""The page of the numbers that matter, from the record of the benchmarks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_RECORD = Path(__file__).parents[1] / "benchmarks.json"

_HEAD = """\
# Performance in short

<!-- Written by `make reference`, from benchmarks.json; run `make bench` to measure again. -->

{glance}

## What the numbers below are

They are ratios: how many times longer the other one takes. 3x means that fiftyone-milvus is three times faster.
**Bold** means that fiftyone-milvus is slower. Ratios carry over to other machines better than milliseconds do.

Measured with 100,000 vectors of 512 dimensions on two cores, with a Milvus 2.3.5 server on the same machine. Times
are those of the fastest repetition; for queries in views, the median.
[All benchmarks](benchmarks.md) has every table, the milliseconds, and how to run them.
"""

_WHY_SLOWER = """\
## Where it is slower, and why

- **The first answer when the embedded engine is not running**: the service has to start, which takes less than two
  seconds, once.
- **Ready to search on a server**: the default index has twice the links of the built-in backend's, so Milvus takes longer
  to build it. Searches work meanwhile, and find more of the neighbors.
- **The whole index on a server**: for the same reason. The built-in backend is faster by some milliseconds, and finds
  fewer of the neighbors.
- **Building on a server, against bare pymilvus**: the ratio changes a lot from turn to turn, as the
  benchmarks show. This package also checks every vector before the upload.
- **A million vectors, against bare pymilvus with four requests at a time**: this package sends fewer at a time, to save
  memory.
- **Building, against LanceDB**: LanceDB only writes a file; it compares every vector at each query.
- **1,000 queries on a server, against sklearn**: sklearn compares all vectors in one matrix product, in memory.
"""


class Record:
    """The tables of ``benchmarks.json``, by the texts of their cells."""

    def __init__(self, path: Path = _RECORD) -> None:
        self._tables: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    def cells(self, table: str, column: str | int, *row: str) -> list[float]:
        """Returns the numbers of one cell: of the row that begins with these cells."""
        columns = self._tables[table]["columns"]
        index = column if isinstance(column, int) else columns.index(column)
        (found,) = (r for r in self._tables[table]["rows"] if tuple(r[: len(row)]) == row)
        return [float(n) for n in re.findall(r"\d+(?:\.\d+)?", found[index].replace(",", ""))]

    def rows(self, table: str, prefix: str) -> list[str]:
        """Returns the first cells of a table that begin with a prefix."""
        firsts = (row[0] for row in self._tables[table]["rows"])
        return [first for first in firsts if first.startswith(prefix)]

    def ratio(self, table: str, column: str | int, theirs: str, ours: str) -> float:
        """Returns one row's cell over another's."""
        return self.cells(table, column, theirs)[0] / self.cells(table, column, ours)[0]

    def view(self, view: str, theirs: str, ours: str) -> float:
        """Returns how many times longer a backend's query in a view takes."""
        return self.cells("views", theirs, view)[0] / self.cells("views", ours, view)[0]

    def recall(self, view: str, backend: str) -> float:
        """Returns the recall of a backend in a view."""
        return self.cells("views", backend, view)[1]


def page() -> str:
    """Returns the page."""
    record = Record()
    parts = [
        _HEAD.replace("{glance}", _at_a_glance(record)),
        "## Compared with FiftyOne's built-in `milvus` backend\n\n" + _built_in(record),
        "## Compared with FiftyOne's default, sklearn\n\n" + _sklearn(record),
        "## Compared with LanceDB\n\n" + _lancedb(record),
        "## Compared with bare pymilvus\n\nWhat this package costs, when pymilvus does the same work on the same"
        " collection.\n\n" + _bare(record),
        "## What a power loss can not take\n\n" + _power_loss(record),
        _WHY_SLOWER,
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


_CHOICE = """\
**Which engine:** the embedded one for yourself, on one machine, up to some millions of vectors: there is nothing to set
up. A Milvus server for several users or machines, or where a query of a million must take 10 ms. A cluster, or Zilliz Cloud,
beyond 10 million. [Sizing](sizing.md) has the memory and the disk, and what to write."""


def _at_a_glance(r: Record) -> str:
    """What takes how long at which size."""

    def ms(cell: Sequence[float]) -> str:
        return f"{cell[0]:.0f} ms"

    rows = [
        (
            "100,000",
            engine,
            *(ms(r.cells("views", f"ours, {engine}", view)) for view in ("all", "10%", "50%")),
            f"{r.cells('building-' + engine, 's (min)', 'ours')[0]:.0f} s",
            "",
        )
        for engine in ("embedded", "server")
    ]
    facts = "from vectors to the first answer, s", "from start to the first answer, s"
    million = [r.cells("codes_facts", "AUTOINDEX", fact)[0] for fact in facts]
    rows.append(
        (
            "1,000,000",
            "embedded",
            *(ms(r.cells("codes", "AUTOINDEX", view)) for view in ("all", "10%", "50%")),
            f"{million[0]:.0f} s",
            f"{million[1]:.1f} s",
        )
    )
    built, first = (r.cells("millions", 1, fact)[0] for fact in facts)
    rows.append(
        (
            "5,000,000",
            "embedded",
            ms(r.cells("millions", 1, "search, whole index")),
            ms(r.cells("millions", 1, "search, view of 10%")),
            "",
            f"{built:.0f} s",
            f"{first:.1f} s",
        )
    )
    head = ("vectors, x 512", "engine", "a query", "in a 10 % view", "in a 50 % view",
            "from vectors to the first answer", "from start to the first answer")  # fmt: skip
    said = (
        'A query is `view.sort_by_similarity(vector, k=25).values("id")`, at recall 0.99 or more, in a view that'
        " was searched before;\nthe first search of a view waits for MongoDB to name its IDs. At a "
        "million, *a query* is one of the first after\na start; later ones take what a 50 % "
        "view takes."
    )
    return f"{_table(head, rows)}\n\n{said}\n\n{_CHOICE}"


def _power_loss(r: Record) -> str:
    upload, single = (
        r.ratio("power-loss", 1, what, f"{what}, unsynced") for what in ("upload", "single rows")
    )
    return (
        "The embedded engine syncs to the disk what it acknowledges. Compared with an engine that syncs nothing, an\n"
        f"upload takes {upload:.2f}x as long, and rows that are added one at a time {single:.2f}x."
        " This depends on the disk; an upload\nwaits for few syncs."
    )


def _built_in(r: Record) -> str:
    def view(name: str) -> list[float]:
        return [r.view(name, f"built-in, {e}", f"ours, {e}") for e in ("embedded", "server")]

    def recall(name: str) -> list[str]:
        return [
            f"{r.recall(name, f'ours, {e}'):.2f}, built-in {r.recall(name, f'built-in, {e}'):.2f}"
            for e in ("embedded", "server")
        ]

    def both(table: str, column: str | int, theirs: str, ours: str) -> list[float]:
        return [r.ratio(f"{table}-{e}", column, theirs, ours) for e in ("embedded", "server")]

    first = "built-in / ours (min)"
    memory = [
        r.ratio("backends", "peak memory GB", f"built-in, {e}", f"ours, {e}")
        for e in ("embedded", "server")
    ]
    # The service's memory is ours too
    memory[0] = r.cells("backends", 3, "built-in, embedded")[0] / (
        r.cells("backends", 3, "ours, embedded")[0] + r.cells("backends", 4, "ours, embedded")[0]
    )
    return _table(
        ("", "embedded engine", "server"),
        [
            ("a query, whole index", *view("all")),
            ("a query in a 1 % view", *view("1%")),
            ("a query in a 10 % view", *view("10%")),
            ("a query in a 50 % view", *view("50%")),
            ("recall in a 1 % view", *recall("1%")),
            ("recall in a 10 % view", *recall("10%")),
            ("recall of the whole index", *recall("all")),
            (
                "1,000 queries in one call",
                *(
                    r.ratio("backends", 2, f"built-in, {e}", f"ours, {e}")
                    for e in ("embedded", "server")
                ),
            ),
            ("build an index", *both("building", "s (min)", "built-in", "ours")),
            (
                "build, until ready to search",
                *both("building", "until ready s", "built-in", "ours"),
            ),
            (
                "upload",
                *both("uploading", "s (min)", "built-in, add_to_index", "ours, add_to_index"),
            ),
            (
                "read all vectors back",
                *both("reading", "s (min)", "built-in, get_embeddings", "ours, get_embeddings"),
            ),
            (
                "200 images to the first answer",
                r.cells("first_answer", first, "embedded")[0],
                r.cells("first_answer", first, "server")[0],
            ),
            (
                "the same, the embedded engine not running yet",
                r.cells("first_answer", first, "embedded, not running yet")[0],
                "",
            ),
            ("peak memory of building and searching", *memory),
        ],
    )


def _sklearn(r: Record) -> str:
    def view(name: str) -> list[float]:
        backends = (f"ours{f}, {e}" for e in ("embedded", "server") for f in ("", " with fields"))
        return [r.view(name, "sklearn", ours) for ours in backends]

    def backends(column: int) -> list[float | str]:
        one, two = (
            r.ratio("backends", column, "sklearn", f"ours, {e}") for e in ("embedded", "server")
        )
        return [one, "", two, ""]

    def app(what: str) -> list[float | str]:
        one, two = (
            r.cells("app", "sklearn / ours", f"{what}, {e}")[0] for e in ("embedded", "server")
        )
        return [one, "", two, ""]

    duplicates = r.cells("duplicates", "s", "find_duplicates(thresh=0.01)", "sklearn")[0]
    duplicates /= r.cells("duplicates", "s", "find_duplicates(thresh=0.01)", "ours, embedded")[0]
    return _table(
        ("", "embedded engine", "with fields", "server", "with fields"),
        [
            ("a query, whole index", *view("all")),
            ("a query in a 0.1 % view", *view("0.1%")),
            ("a query in a 1 % view", *view("1%")),
            ("a query in a 10 % view", *view("10%")),
            ("a query in a 50 % view", *view("50%")),
            ("a query in a view far from it (9 %)", *view("far, small (9.0%)")),
            ("1,000 queries in one call", *backends(2)),
            ("build an index", *backends(1)),
            ("a search in the App, click to grid", *app("click to grid")),
            ("find duplicates", duplicates, "", "", ""),
        ],
    )


def _lancedb(r: Record) -> str:
    def backends(column: int) -> list[float]:
        return [
            r.ratio("backends", column, "lancedb", f"ours, {e}") for e in ("embedded", "server")
        ]

    def view(name: str) -> list[float]:
        return [r.view(name, "lancedb", f"ours, {e}") for e in ("embedded", "server")]

    return _table(
        ("", "embedded engine", "server"),
        [
            ("a query, whole index", *view("all")),
            ("a query in a 10 % view", *view("10%")),
            ("1,000 queries", *backends(2)),
            ("build an index", *backends(1)),
        ],
    )


def _bare(r: Record) -> str:
    def query(what: str) -> list[float]:
        return [
            r.cells("querying", "bare ms (min)", e, what)[0]
            / r.cells("querying", "ours ms (min)", e, what)[0]
            for e in ("embedded", "server")
        ]

    def fastest(table: str, ours: str) -> float:
        return min(r.ratio(table, "s (min)", bare, ours) for bare in r.rows(table, "bare"))

    def both(table: str, ours: str) -> list[float]:
        return [fastest(f"{table}-{engine}", ours) for engine in ("embedded", "server")]

    million = fastest("uploading-server-large", "ours, add_to_index")
    return _table(
        ("", "embedded engine", "server"),
        [
            ("a query", *query("one query")),
            ("1,000 queries in one call", *query("1,000 queries")),
            ("build an index, the fastest of three ways", *both("building", "ours")),
            (
                "upload, the fastest of five ways",
                *both("uploading", "ours, add_to_index"),
            ),
            ("upload a million, the fastest of five ways", "", million),
            ("read all vectors back", *both("reading", "ours, get_embeddings")),
        ],
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    text = f"{value:.0f}x" if value >= 10 else f"{value:.1f}x" if value >= 2 else f"{value:.2f}x"
    # Within the noise of one part in fifty, neither is slower
    return f"**{text}**" if value < 0.98 else text
