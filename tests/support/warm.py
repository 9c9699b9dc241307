"""A Python that has imported FiftyOne, which takes five seconds of a processor, and then forks.

``import fiftyone`` starts no thread, connects to nothing and does not import FiftyOne Brain. So a
fork is as good as a new process, except for variables that FiftyOne reads when it is imported.
Not ``multiprocessing``'s fork server, whose children leave out how Python ends: errors show there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

_FORKS = """
import json, os, sys, types
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    for number, name in enumerate(("in", "out", "err")):
        path = os.path.join(job["folder"], name)
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0, closefd=False)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv[:] = ["-c", *job["arguments"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(job["code"], "<string>", "exec"), main.__dict__)
    break
"""


class WarmPython:
    """Runs code as ``python -c`` does, without the time that FiftyOne's import takes.

    Args:
        modules: what is imported before the forks
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        code: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: str = "",
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Runs code, and returns what it printed and how it ended.

        Args:
            code: what to run
            arguments: for ``sys.argv``
            env (None): all its variables; those for FiftyOne itself have no effect, but
                ``FIFTYONE_BRAIN_*`` have. By default, those of this process
            cwd (None): where to run it
            stdin (""): its input
            timeout (120): seconds

        Raises:
            TimeoutError: if it takes longer
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _FORKS, *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "in").write_text(stdin, encoding="utf-8")
            job = {
                "code": code,
                "arguments": arguments,
                "env": dict(os.environ if env is None else env),
                "cwd": str(cwd or os.getcwd()),
                "folder": folder,
            }
            late = threading.Timer(timeout, self._stop)
            late.start()
            print(json.dumps(job), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
            late.cancel()
            out, err = ((Path(folder) / name).read_text("utf-8") for name in ("out", "err"))
        if not answer:
            self._process.wait()
            raise TimeoutError(f"not done in {timeout} s: {out}{err}")
        return subprocess.CompletedProcess(["python"], int(answer), out, err)

    def _stop(self) -> None:
        """Ends it, and what it runs."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)


WARM = WarmPython("fiftyone")
"""That of this test process, with which it ends."""
