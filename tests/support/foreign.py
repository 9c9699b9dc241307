"""Runs tests on a machine full of things of the user, none of which they may touch.

A script: ``python -m tests.support.foreign PYTEST_ARGUMENTS``, or ``make test-isolated``. It puts
other settings into a home and the environment, listens where a Milvus and a MongoDB of the user
would, and fails if the tests fail, if anybody connects, or if the home is changed. Where the kernel
permits, it has a network of its own, so that a Milvus that really runs here is not in the way.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.support.supervisor import enter_namespace

PORTS = (19530, 27017)
ROOT = Path(__file__).parents[2]


class Listener:
    """Answers at a port of this machine, and counts who connects."""

    def __init__(self, port: int) -> None:
        self.port, self.connections = port, 0
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                server = socket.create_server((host, port), family=family)
            except OSError:
                if family == socket.AF_INET:
                    raise
                continue  # no IPv6 here
            threading.Thread(target=self._count, args=(server,), daemon=True).start()

    def _count(self, server: socket.socket) -> None:
        while True:
            server.accept()[0].close()
            self.connections += 1


def furnish(home: Path) -> dict[str, str]:
    """Makes a user's home; returns the variables that go with it."""
    folder = home / ".fiftyone"
    folder.mkdir(parents=True)
    config = {"database_uri": "mongodb://localhost:27017", "default_dataset_dir": str(home / "d")}
    (folder / "config.json").write_text(json.dumps(config))
    milvus = {"uri": "http://localhost:19530", "user": "theirs", "password": "theirs"}
    brain = {"default_similarity_backend": "milvus", "similarity_backends": {"milvus": milvus}}
    (folder / "brain_config.json").write_text(json.dumps(brain))
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "FIFTYONE_DATABASE_URI": "mongodb://localhost:27017",
        "FIFTYONE_DATABASE_NAME": "theirs",
        "FIFTYONE_DATABASE_DIR": str(home / ".fiftyone" / "var"),
        "FIFTYONE_PLUGINS_DIR": str(home / "plugins"),
        "FIFTYONE_MILVUS_PATH": str(home / "theirs.db"),
        "FIFTYONE_BRAIN_CONFIG_PATH": str(folder / "brain_config.json"),
        "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI": "http://localhost:19530",
        "FIFTYONE_BRAIN_SIMILARITY_MILVUS_DEPLOYMENT": "server",
        "MILVUS_URI": "http://localhost:19530",
        "http_proxy": "http://localhost:19530",
    }


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Returns when each file was changed, and what is in it."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def main(arguments: list[str]) -> int:
    enter_namespace()
    try:
        listeners = [Listener(port) for port in PORTS]
    except OSError as error:
        print(f"A port of {PORTS} is taken, and a network of our own is not allowed: {error}")
        return 77
    with tempfile.TemporaryDirectory(prefix="foreign-") as folder:
        home = Path(folder) / "home"
        # A test of the tests runs this in a worker of pytest-xdist, which these are none of
        own = {n: value for n, value in os.environ.items() if not n.startswith("PYTEST_")}
        environment = {**own, **furnish(home)}
        before = contents(home)
        code = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False
        ).returncode
        after = contents(home)
    for listener in listeners:
        if listener.connections:
            print(f"Port {listener.port} of the user got {listener.connections} connections")
            code = code or 1
    for path in sorted({p for p in before.keys() | after if before.get(p) != after.get(p)}):
        print(f"The user's ~/{path} was changed")
        code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
