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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_FORKS = """
import json, os, sys, types
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    job = json.loads(line)
    child = job.get("started")
    if child is None:
        modes = [os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT]
        files = [os.open(*each) for each in zip(job["files"], modes)]
        child = os.fork()
        if child:
            for file in files:
                os.close(file)
            if not job["wait"]:
                print(child, flush=True)
                continue
    if child:
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv[:] = ["-c", *job["arguments"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(job["code"], "<string>", "exec"), main.__dict__)
    break
"""


@dataclass
class Running:
    """Code that was started, which ends when it is killed or by itself."""

    _python: WarmPython
    pid: int
    stdin: TextIO
    stdout: TextIO
    returncode: int | None = None

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Waits for its end; returns its exit code."""
        if self.returncode is None:
            self.returncode = int(self._python._ask({"started": self.pid}))
        return self.returncode

    def close(self) -> None:
        """Kills it, if it was not waited for, and closes its pipes."""
        self.kill()
        self.wait()
        self.stdin.close()
        self.stdout.close()


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
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("in", "out", "err")]
            files[0].write_text(stdin, encoding="utf-8")
            variables = dict(os.environ if env is None else env)
            job = {"code": code, "arguments": arguments, "env": variables}
            job |= {"cwd": str(cwd or os.getcwd()), "files": [*map(str, files)], "wait": True}
            late = threading.Timer(timeout, self._stop)
            late.start()
            answer = self._ask(job)
            late.cancel()
            out, err = (file.read_text("utf-8") if file.exists() else "" for file in files[1:])
        if not answer:
            raise TimeoutError(f"not done in {timeout} s: {out}{err}")
        return subprocess.CompletedProcess(["python"], int(answer), out, err)

    def start(self, code: str, *arguments: str, cwd: str | Path | None = None) -> Running:
        """Starts code like :meth:`run`, and does not wait for its end."""
        with tempfile.TemporaryDirectory() as folder:
            pipes = [str(Path(folder) / name) for name in ("in", "out")]
            for pipe in pipes:
                os.mkfifo(pipe)
            # What is open here can be opened there at once
            stdin = os.open(pipes[0], os.O_RDWR)
            stdout = os.open(pipes[1], os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(stdout, True)
            job = {"code": code, "arguments": arguments, "env": dict(os.environ)}
            job |= {"cwd": str(cwd or os.getcwd()), "files": pipes, "wait": False}
            pid = int(self._ask(job))
        return Running(self, pid, open(stdin, "w"), open(stdout))

    def _ask(self, job: Mapping[str, Any]) -> str:
        """Returns its answer, or ``""`` if it ends."""
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
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
        return answer

    def _stop(self) -> None:
        """Ends it, and what it runs."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)


WARM = WarmPython("fiftyone")
"""That of this test process, with which it ends."""
