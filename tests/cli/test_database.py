"""FiftyOne's database does not answer a command: one line at the end."""

from __future__ import annotations

import os
import subprocess

from fiftyone_milvus.dataset import availability
from tests.cli.support import PROGRAM
from tests.support.processes import free_port
from tests.support.waiting import PATIENCE


def test_a_command_ends_with_one_line() -> None:
    port = free_port()
    uri = f"mongodb://someone:secret@127.0.0.1:{port}/?serverSelectionTimeoutMS=300"
    run = subprocess.run(
        [PROGRAM, "list"],
        env={**os.environ, "FIFTYONE_DATABASE_URI": uri},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: FiftyOne's database at 127.0.0.1:{port} does not answer (")
    assert "Connection refused" in last
    assert last.endswith(availability.REMEDY)
    assert len(last) < 300
    assert "secret" not in run.stdout + run.stderr
