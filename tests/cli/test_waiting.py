"""What a command waits for is said at once on a terminal, and nowhere else."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from fiftyone_milvus.cli import output, waiting


class Terminal(io.StringIO):
    """A terminal that says when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)

    def lines(self) -> list[str]:
        """Returns what is seen: a line that was cleared is not."""
        return [line.rpartition("\x1b[K")[2] for line in self.getvalue().split("\n")]


def test_it_turns_until_the_end_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with waiting.waiting("Starting FiftyOne"):
        assert terminal.lines()[-1].startswith("Starting FiftyOne")
        terminal.written.clear()
        assert terminal.written.wait(60)
        # A log line of FiftyOne's
        with output.only_results():
            print("Migrating the database")
        assert terminal.lines()[0] == "Migrating the database"
    assert terminal.lines() == ["Migrating the database", ""]
    seen = terminal.getvalue()
    assert "Starting FiftyOne..." in seen
    assert "Starting FiftyOne |" in seen


def test_nothing_is_written_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stderr", piped)
    with waiting.waiting("Starting FiftyOne"):
        pass
    assert piped.getvalue() == ""
