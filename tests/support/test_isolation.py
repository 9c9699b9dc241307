"""Tests touch nothing of the user: no Milvus, MongoDB, home, environment or configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_what_is_the_users_stays_as_it_is() -> None:
    """A few tests that follow the defaults; ``make test-isolated`` runs all of them so."""
    command = [sys.executable, "-m", "tests.support.foreign", "-q", "-n", "0"]
    command += ["-p", "no:cacheprovider", "tests/support/isolated.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_program_that_looks_there_is_found_out(tmp_path: Path) -> None:
    script = tmp_path / "test_curious.py"
    script.write_text(
        "import os, pathlib, socket\n"
        "def test_curious():\n"
        "    socket.create_connection(('localhost', 19530)).close()\n"
        "    home = pathlib.Path(os.environ['HOME'])\n"
        "    (home / '.fiftyone' / 'config.json').write_text('{}')\n"
    )
    command = [sys.executable, "-m", "tests.support.foreign", "-q", "-n", "0", "-p"]
    command += ["no:cacheprovider", "--noconftest", "--rootdir", str(tmp_path), str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "Port 19530 of the user got 1 connections" in done.stdout
    assert "The user's ~/.fiftyone/config.json was changed" in done.stdout
