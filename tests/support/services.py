"""Services of the embedded engine that a Python forks which has imported what they need.

A start takes more than half a second of a processor, nearly all of it for imports, and there are
tests that start more than a hundred. What is started is what ``launch()`` would start: it gets the
same arguments, files, environment and directory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fiftyone_milvus.embedded import launch
from tests.support.processes import die_with_parent

_COMMAND = Path(__file__).with_name("forked_service.py")
_VARIABLE = "TESTS_FORKED_SERVICES"

# The last arguments are those by which the package knows its services in the list of processes
_FORKS = """
import json, os, runpy, socket, sys
main = runpy.run_path(sys.argv[2], run_name="forked")
main["_import_bare"]("pymilvus")
main["_import_pyarrow"]()
import fiftyone_milvus.embedded.service, milvus_lite.db
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    received, files, _, _ = socket.recv_fds(connection, 65536, 3)
    while more := connection.recv(65536):
        received += more
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()
        for file in files:
            os.close(file)
        continue
    listener.close()
    connection.close()
    job = json.loads(received)
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    status = main["main"](job["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""


class ForkedServices:
    """Makes services by forks, until it is stopped; the services go on then.

    Args:
        folder: where a socket may be made, with a short path
    """

    def __init__(self, folder: Path) -> None:
        self._address = folder / "services.sock"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKS, str(self._address), str(launch._MAIN), "--path"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    @contextmanager
    def used(self) -> Iterator[None]:
        """Has this process' services made so; child processes start theirs as usual."""
        with pytest.MonkeyPatch.context() as context:
            context.setattr(launch, "_MAIN", _COMMAND)
            context.setenv(_VARIABLE, str(self._address))
            yield

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
