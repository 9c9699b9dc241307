"""Every script in ``examples/``, run as a user runs it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from tests.support.servers import MilvusServer
from tests.support.warm import WARM

EXAMPLES = Path(__file__).parents[2] / "examples"
HELPERS = {"digits.py"}

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, embedded_path: Path) -> Iterator[Run]:
    """Runs a script in an empty directory, on the embedded engine; returns what it printed."""

    def run(script: str, uri: str | None = None) -> str:
        # With its own folder in the path, where the helpers are
        done = WARM.run(
            "import runpy, sys; sys.path[0] = sys.argv[1]\n"
            "runpy.run_path(sys.argv[2], run_name='__main__')",
            str(EXAMPLES),
            str(EXAMPLES / script),
            cwd=tmp_path,
            env={
                **os.environ,
                "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI": uri or str(embedded_path),
            },
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr, "nothing that a user would wonder about"
        return done.stdout

    yield run
    for path in tmp_path.glob("*.db"):
        embedded.stop(path)


def after(printed: str, label: str) -> list[str]:
    """Returns the words that were printed after a label."""
    (line,) = re.findall(rf"^{re.escape(label)}: (.*)$", printed, re.MULTILINE)
    return line.split()


def test_every_example_is_tested_and_short() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) >= 6
    for script in scripts:
        assert script.name in HELPERS or f'run("{script.name}"' in source, script.name
        assert len(script.read_text(encoding="utf-8").splitlines()) < 40, script.name


def test_quickstart(run: Run) -> None:
    printed = run("quickstart.py")
    assert "500 vectors, embedded engine" in printed
    neighbors = re.findall(r"^  (\d)  (\d\.\d{4})$", printed, re.MULTILINE)
    assert [digit for digit, _ in neighbors] == ["0"] * 8
    distances = [float(distance) for _, distance in neighbors]
    assert distances[0] == pytest.approx(0, abs=1e-4)
    assert distances == sorted(distances)
    assert distances[1] > 0.01
    assert after(printed, "Nearest to the vector of a 7") == ["7"] * 8


def test_existing_collection(run: Run) -> None:
    printed = run("existing_collection.py")
    assert "500 vectors in 'scans'" in printed
    assert after(printed, "Nearest to a 3") == ["3"] * 8


def test_incremental(run: Run) -> None:
    printed = run("incremental.py")
    assert after(printed, "added") == ["400"]
    assert after(printed, "added again") == ["400"]
    assert after(printed, "replaced") == ["True"]
    assert after(printed, "missing") == ["100"]
    assert after(printed, "removed") == ["490"]


def test_duplicates(run: Run) -> None:
    printed = run("duplicates.py")
    assert "20 near-duplicates of 520 samples" in printed
    assert "'nearest': 20" in printed
    assert "'duplicate': 20" in printed
    counts = re.findall(r"'\d': (\d+)", printed.rsplit("The 30 most unique", 1)[1])
    assert sum(map(int, counts)) == 30


def test_views(run: Run) -> None:
    printed = run("views.py")
    others = after(printed, "Like a 0, but none")
    assert len(others) == 10
    assert "0" not in others
    assert {*after(printed, "post-min of a 1 and an 8")} == {"1", "8"}
    assert len(after(printed, "mean of a 1 and an 8")) == 10
    least = after(printed, "Least like a 0")
    assert len(least) == 10
    assert "0" not in least
    assert after(printed, "All, sorted") == ["500"]


def test_server(run: Run, milvus_server: MilvusServer) -> None:
    printed = run("server.py", milvus_server.uri)
    assert re.search(r"^server, Milvus v?2\.", printed, re.MULTILINE)
    assert after(printed, "Stored credentials") == ["[]"]
    assert after(printed, "Nearest to a 0") == ["0"] * 8
