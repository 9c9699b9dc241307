"""What clients asked for, and what was acknowledged to them: a file for each, which survives them.

A client writes what it is about to do, does it, and writes that it was acknowledged. So whoever
reads the file knows what each row may be: what was acknowledged last, or what was asked for since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

DIM = 16
#: The version of a row that is not there.
GONE = -1


def vector(row: int, version: int) -> np.ndarray:
    """The vector of a row, from its number and version alone."""
    return np.random.default_rng([row, version]).normal(size=DIM).astype(np.float32)


class Ledger:
    """The ledger of one thread, which alone writes its rows.

    Args:
        path: its file, which is continued if there is one
        rows: the numbers of its rows, all at version 0 at first
    """

    def __init__(self, path: Path, rows: Collection[int]) -> None:
        self.rows = list(rows)
        #: The versions that each row may have
        self.possible = {row: {0} for row in rows}
        self.acknowledged, self.searches = 0, 0
        #: Errors that say that it was not done, or perhaps not
        self.refused: list[str] = []
        #: What must not happen
        self.problems: list[str] = []
        self._last = 0
        self._asked: tuple[int, list[int]] = (0, [])
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                self._read(*json.loads(line))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def ask(self, rows: list[int], *, delete: bool) -> int:
        """Notes what is asked for next; returns the version that the rows get."""
        self._last += 1
        version = GONE if delete else self._last
        self._note("ask", [self._last, version, rows])
        return version

    def acknowledge(self) -> None:
        """Notes that it was acknowledged."""
        self._note("acknowledged", None)

    def searched(self) -> None:
        """Notes a search that was answered rightly."""
        self._note("searched", None)

    def refuse(self, reason: str) -> None:
        """Notes an error of ours."""
        self._note("refused", reason)

    def problem(self, text: str) -> None:
        """Notes what must not happen."""
        self._note("problem", text)

    def _note(self, what: str, value: Any) -> None:
        self._read(what, value)
        os.write(self._file, json.dumps([what, value]).encode() + b"\n")

    def _read(self, what: str, value: Any) -> None:
        if what == "ask":
            self._last, version, rows = value
            self._asked = version, rows
            for row in rows:
                self.possible[row].add(version)
        elif what == "acknowledged":
            self.acknowledged += 1
            version, rows = self._asked
            for row in rows:
                self.possible[row] = {version}
        elif what == "searched":
            self.searches += 1
        elif what == "refused":
            self.refused.append(value)
        else:
            self.problems.append(value)
