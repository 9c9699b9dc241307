"""Calls the command line: as a shell does, and in this process, where FiftyOne is imported."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE

Call = Callable[..., tuple[str, str]]

PROGRAM = str(Path(sys.executable).with_name("fiftyone-milvus"))


def call(*arguments: str, exit_code: int = 0) -> tuple[str, str]:
    """Runs a command, without a terminal; returns what it prints, and what it says of it."""
    run = subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == exit_code, run.stdout + run.stderr
    assert "Traceback" not in run.stderr, run.stderr
    return run.stdout, run.stderr


def enter(*arguments: str, exit_code: int = 0) -> tuple[str, str]:
    """Runs a command like :func:`call`, by the entry point of the installed program."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="fiftyone-milvus")
    main, out, err = entry.load(), io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _arguments(arguments):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    assert code == exit_code, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _arguments(arguments: tuple[str, ...]) -> Iterator[None]:
    before, sys.argv = sys.argv, [PROGRAM, *arguments]
    try:
        yield
    finally:
        sys.argv = before


def read(*arguments: str, exit_code: int = 0, how: Call = enter) -> Any:
    """Runs a command with ``--json``; returns what it prints, which must be JSON alone."""
    return json.loads(how(*arguments, "--json", exit_code=exit_code)[0])


def refused(*arguments: str, how: Call = enter) -> str:
    """Runs a command that must fail; returns its one line."""
    out, err = how(*arguments, exit_code=1)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, err
    return lines[0].removeprefix("Error: ")
