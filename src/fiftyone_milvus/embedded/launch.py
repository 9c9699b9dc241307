"""Starting the service process."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from fiftyone_milvus.embedded import logs, paths
from fiftyone_milvus.embedded.lifetime import Lifetime
from fiftyone_milvus.errors import EmbeddedServiceError

_MAIN = Path(__file__).with_name("__main__.py")

# Threads of OpenBLAS and OpenMP would spin on all cores after each search, longer than a small one
# takes, in case there is another
_IDLE_THREADS = {"OPENBLAS_THREAD_TIMEOUT": "4", "OMP_WAIT_POLICY": "passive"}
# A search has threads of its own, each with its own matrix products. If the libraries divided these
# among threads once more, small products would wait for each other: ten times as long
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def launch(
    path: Path, lifetime: Lifetime, timeout: float, *, detach: bool
) -> subprocess.Popen[bytes]:
    """Starts the service of a data directory and waits until it is ready.

    Args:
        path: the resolved data directory
        lifetime: when the service ends itself
        timeout: seconds to wait until it is ready
        detach: whether it leaves this process' terminal and session, and logs to the data
            directory

    Returns:
        the started process; if detached, it has ended after it started the service

    Raises:
        EmbeddedServiceError: if the service can't start, with the reason
    """
    if not sys.executable:
        raise EmbeddedServiceError(
            "can't start the Milvus Lite service: sys.executable, the Python to run it with, is "
            "empty; start it with 'fiftyone-milvus serve'"
        )
    command = [sys.executable, *_flags(), str(_MAIN), "--announce", "--path", str(path)]
    command += ["--idle-seconds", repr(lifetime.idle_seconds)]
    command += ["--grace-seconds", repr(lifetime.grace_seconds)]
    command += ["--close-seconds", repr(lifetime.close_seconds)]
    options: dict[str, Any] = {}
    if detach:
        command.append("--detach")
        options["stderr"] = subprocess.DEVNULL
        if os.name == "nt":
            options["creationflags"] = (
                subprocess.DETACHED_PROCESS  # type: ignore[attr-defined,unused-ignore]
                | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined,unused-ignore]
            )
        else:
            options["start_new_session"] = True
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=_environment(),
            **options,
        )
    except OSError as error:
        raise EmbeddedServiceError(
            f"can't start the Milvus Lite service with '{sys.executable}': {error.strerror}"
        ) from error

    line = _first_line(process.stdout, timeout)
    if detach and os.name != "nt":
        process.wait()
    try:
        state = json.loads(line or b"{}")
    except ValueError:
        state = {}
    if "ready" in state:
        if detach and os.name == "nt":
            # It outlives this process, so no process waits for it.
            process.returncode = 0
        return process

    if not detach:
        process.kill()
        process.wait()
    if "error" in state:
        raise EmbeddedServiceError(str(state["error"]))
    log = path / paths.LOG
    if line is None:
        raise EmbeddedServiceError(
            f"the Milvus Lite service of '{path}' was not ready within {timeout:g} s; see '{log}'"
        )
    raise EmbeddedServiceError(
        f"the Milvus Lite service of '{path}' ended before it was ready: "
        f"{logs.last_line(path) or 'no reason given'}; see '{log}'"
    )


def _environment() -> dict[str, str]:
    """The environment of this process without what the service must not know.

    FiftyOne's variables may hold passwords of Milvus and of its database.
    """
    known = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("FIFTYONE_") or name.startswith("FIFTYONE_MILVUS_")
    }
    return {**_IDLE_THREADS, **known, **_ONE_THREAD}


def _flags() -> list[str]:
    """Returns the options of this Python that say where it looks for packages."""
    options = {
        "-I": "isolated",
        "-E": "ignore_environment",
        "-s": "no_user_site",
        "-P": "safe_path",
    }
    return [option for option, name in options.items() if getattr(sys.flags, name, False)]


def _first_line(stream: IO[bytes] | None, timeout: float) -> bytes | None:
    # In a thread, because Windows can't wait for a pipe with a timeout.
    assert stream is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        with stream:
            lines.put(stream.readline())

    threading.Thread(target=read, name="service-start", daemon=True).start()
    try:
        return lines.get(timeout=max(timeout, 0.0))
    except queue.Empty:
        return None
