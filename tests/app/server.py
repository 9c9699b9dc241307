"""The FiftyOne App's server, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fiftyone as fo

from tests.support.processes import die_with_parent, free_port

MAIN = Path(fo.__file__).parent / "server" / "main.py"


class AppServer:
    """What ``fiftyone app launch`` starts, on a free port, with an environment of its own.

    Args:
        environment: variables to set over this process'; None removes one
        log: the file that its output goes to
    """

    def __init__(self, environment: Mapping[str, str | None], log: Path) -> None:
        self.port = free_port()
        self.log = log
        merged = {**os.environ, **environment}
        with open(log, "ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, str(MAIN), "--port", str(self.port), "--address", "127.0.0.1"],
                cwd=MAIN.parent,
                env={name: value for name, value in merged.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                preexec_fn=die_with_parent(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while True:
            assert self._process.poll() is None, f"the App's server ended: {self.output()}"
            try:
                urllib.request.urlopen(f"{self.url}/fiftyone", timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline, f"no App after {seconds} s: {self.output()}"
                time.sleep(0.1)

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """Ends it at once; it keeps nothing that matters."""
        self._process.kill()
        self._process.wait(60)

    def execute(self, operator: str, dataset: str, params: Mapping[str, Any] | None = None) -> Any:
        """Runs an operator of a plugin, as the App's browser side does; returns its result."""
        body = {"operator_uri": operator, "dataset_name": dataset, "params": dict(params or {})}
        request = urllib.request.Request(
            f"{self.url}/operators/execute",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            answer = json.load(response)
        assert not answer.get("error"), answer["error"]
        return answer["result"]
