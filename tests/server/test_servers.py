"""The test servers themselves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import MilvusServer
from tests.support.processes import alive

ROOT = Path(__file__).parents[2]


def test_two_servers_at_once(
    milvus_server: MilvusServer, make_server: Callable[..., MilvusServer]
) -> None:
    other = make_server("plain")
    assert other.port != milvus_server.port
    ours, theirs = milvus_server.client(), other.client()
    try:
        theirs.create_collection("only_theirs", dimension=2, timeout=20)
        assert "only_theirs" not in ours.list_collections()
    finally:
        ours.close()
        theirs.close()


def test_killed_and_restarted(make_server: Callable[..., MilvusServer]) -> None:
    server = make_server("plain")
    client = server.client()
    client.create_collection("kept", dimension=2, timeout=20)
    client.close()
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=1)
    server.restart()
    client = server.client()
    assert client.has_collection("kept")
    client.close()


def test_nothing_stays_behind_a_killed_test_process(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.servers import MilvusServer\n"
        f"server = MilvusServer('plain', Path({str(tmp_path / 'milvus')!r}))\n"
        "server.port = 0\n"
        "server._launch(True)\n"
        "print(server.pid, server._process.pid, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if alive(pid)]
