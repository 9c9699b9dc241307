"""The Python that forks, for tests: as good as a new one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.warm import WarmPython


def test_it_runs_code_as_python_does(tmp_path: Path) -> None:
    # Without FiftyOne, with which all others use it: this one ends it twice
    warm = WarmPython("json")
    code = """
import atexit, os, sys
print(sys.argv, os.getcwd(), sys.stdin.read(), os.environ["OWN"], "HOME" in os.environ)
atexit.register(print, "the end")
print("aside", file=sys.stderr)
value = 1
def more():
    return value
sys.exit(more() + 2)
"""
    done = warm.run(code, "a", "ü", cwd=tmp_path, stdin="given", env={"OWN": "x"})
    assert done.stdout == f"['-c', 'a', 'ü'] {tmp_path} given x False\nthe end\n"
    assert (done.returncode, done.stderr) == (3, "aside\n")
    # Nothing is left of it
    failed = warm.run("print(value)")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "NameError: name 'value' is not defined" in failed.stderr
    assert warm.run("import os; print(os.getcwd())").stdout.strip() == os.getcwd()
    with pytest.raises(TimeoutError, match=r"not done in 0\.5 s: before"):
        warm.run("import time; print('before', flush=True); time.sleep(60)", timeout=0.5)
    assert warm.run("print(1)").stdout == "1\n"


def test_it_starts_code_that_is_spoken_to_and_killed() -> None:
    warm = WarmPython("json")
    code = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    first, second = warm.start(code), warm.start(code)
    for one, said in ((second, "b"), (first, "a")):
        one.stdin.write(f"{said}\n")
        one.stdin.flush()
        assert one.stdout.readline() == f"{said.upper()}\n"
    first.kill()
    assert first.stdout.readline() == ""
    assert first.wait() == -9
    assert warm.run("print(1)").stdout == "1\n"
    second.stdin.write("c\n")
    second.stdin.flush()
    assert second.stdout.readline() == "C\n"
    second.close()
    first.close()
    ended = warm.start("import sys; sys.exit(3)")
    assert (ended.stdout.read(), ended.wait()) == ("", 3)
    ended.close()
