"""FiftyOne's database does not answer: who, after seconds, and one line at the end."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from fiftyone_milvus.cli import database
from tests.cli.support import PROGRAM
from tests.embedded.support import wait_until
from tests.support.processes import free_port


def test_a_command_ends_with_one_line() -> None:
    port = free_port()
    uri = f"mongodb://someone:secret@127.0.0.1:{port}/?serverSelectionTimeoutMS=300"
    run = subprocess.run(
        [PROGRAM, "list"],
        env={**os.environ, "FIFTYONE_DATABASE_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: FiftyOne's database at 127.0.0.1:{port} does not answer (")
    assert "Connection refused" in last
    assert last.endswith(database.REMEDY)
    assert len(last) < 300
    assert "secret" not in run.stdout + run.stderr


def test_a_command_that_waits_says_so(monkeypatch: Any) -> None:
    import pymongo  # noqa: F401

    monkeypatch.setattr(database, "WARN_SECONDS", 0.05)
    monkeypatch.setattr(database, "_ANSWER_MS", 100)
    said: list[str] = []
    monkeypatch.setattr(database.typer, "echo", lambda text, err: said.append(text))
    with database.watched():  # the tests' own answers
        pass
    assert not said
    port = free_port()
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://me:secret@127.0.0.1:{port}")
    with database.watched():
        wait_until(lambda: said, 20)
    assert said == [f"FiftyOne's database at 127.0.0.1:{port} does not answer; still waiting"]


@pytest.mark.parametrize("error", [ValueError("no"), ConnectionError("gone")])
def test_other_errors_are_not_the_databases(error: Exception) -> None:
    assert database.explain(error) is None


def test_an_error_that_is_its_own_context():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert database.explain(one) is None
