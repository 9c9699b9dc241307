"""The test servers themselves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import alive
from tests.support.servers import MilvusServer
from tests.support.waiting import wait_until

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
        "import sys, time; from pathlib import Path\n"
        "from tests.support.servers import MilvusServer\n"
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
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_processes_share_a_server_until_the_last_has_left(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.support.servers import MilvusServer\n"
        f"server = MilvusServer.share(Path({str(tmp_path / 'shared')!r}), sys.argv[1])\n"
        "client = server.client()\n"
        "client.create_collection(f'of_{sys.argv[1]}', dimension=2, timeout=20)\n"
        "print(server.pid, *client.list_collections(), flush=True); sys.stdin.read()\n"
    )

    def join(name: str) -> tuple[subprocess.Popen[str], int, list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        pid, *collections = process.stdout.readline().split()
        return process, int(pid), collections

    def end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    first, pid, collections = join("one")
    assert collections == ["of_one"]
    second, other, collections = join("two")
    assert (other, collections) == (pid, ["of_two"])
    end(first)
    third, other, collections = join("three")
    assert (other, collections) == (pid, ["of_three"])
    end(second)
    assert alive(pid)
    end(third)
    wait_until(lambda: not alive(pid) and not (tmp_path / "shared" / "data").exists())
    fourth, other, collections = join("four")
    assert other != pid
    assert collections == ["of_four"]
    end(fourth)
