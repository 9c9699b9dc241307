"""Runs every command with the defaults of a fresh user, in one process; prints what each wrote.

Arguments: ``piped`` or ``terminal``, the name of a dataset, and a folder. FiftyOne is imported by
the first command that needs it, as in a shell.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fiftyone_milvus import cli


def add_samples(name: str) -> None:
    """Gives sync() something to upload."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    embedding = dataset.first().embedding
    more = [fo.Sample(filepath=f"more-{i}.png", embedding=embedding + i) for i in range(5)]
    dataset.add_samples(more, progress=False)
    # Parts that share nothing, and labels for most
    dataset[:20].tag_samples("one")
    dataset[20:40].tag_samples("two")
    dataset[:40].set_values("kind", ["a", "b"] * 20, progress=False)


def steps(name: str, folder: str) -> Iterator[list[str]]:
    """Yields command lines; between some, changes the dataset."""
    key, parquet = "made", os.path.join(folder, "made.parquet")
    yield ["setup"]
    yield ["doctor"]
    yield ["enable"]
    yield ["status"]
    yield ["plugin", "install"]
    yield ["plugin", "status"]
    yield ["create", name, key, "--embeddings-field", "embedding"]
    yield ["list"]
    yield ["info", name, key]
    add_samples(name)
    yield ["sync", name, key]
    yield ["search", name, key, "--id", sample_id(name), "-k", "3"]
    yield ["duplicates", name, key, "--thresh", "0.1"]
    yield ["groups", name, key, "--thresh", "0.1"]
    yield ["unique", name, key, "5"]
    yield ["leaks", name, key, "one", "two", "--thresh=-1000000"]
    yield ["select", name, key, "5"]
    yield ["label", name, key, "kind", "--dry-run"]
    yield ["create", name, "other", "--embeddings-field", "embedding"]
    yield ["compare-datasets", name, key, name, "other"]
    yield ["rate", name, key, "representativeness"]
    yield ["delete", name, "other", "--yes"]
    yield ["map", name, key]
    yield ["evaluate", name, key]
    yield ["tune", name, key]
    yield ["compare", name, key, "--type", "FLAT"]
    yield ["adopt", name]
    yield ["migrate", name, key, "--to", "moved"]
    yield ["export", name, key, parquet]
    yield ["import", parquet, name, "imported"]
    yield ["rename", name, key, f"{key}_2"]
    yield ["delete", name, f"{key}_2", "--yes"]
    yield ["cleanup", "--yes"]
    yield ["plugin", "uninstall"]
    yield ["disable"]
    yield ["stop"]


def sample_id(name: str) -> str:
    import fiftyone as fo

    return str(fo.load_dataset(name).first().id)


@contextmanager
def files() -> Iterator[Callable[[], tuple[str, str]]]:
    """Sends file descriptors 1 and 2 to files."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)

        def read() -> tuple[str, str]:
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
            return texts[0], texts[1]

        yield read


@contextmanager
def terminals() -> Iterator[Callable[[], tuple[str, str]]]:
    """Sends file descriptors 1 and 2 to a terminal each."""
    found: list[bytearray] = []
    threads = []
    for number in (1, 2):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.dup2(slave, number)
        os.close(slave)
        text = bytearray()
        found.append(text)

        def drain(master: int = master, text: bytearray = text) -> None:
            while True:
                try:
                    part = os.read(master, 65536)
                except OSError:
                    return  # nobody has the other end any more
                if not part:
                    return
                text.extend(part)

        threads.append(threading.Thread(target=drain, daemon=True))
        threads[-1].start()

    def read() -> tuple[str, str]:
        for number in (1, 2):
            os.dup2(saved[number], number)
        for thread in threads:
            thread.join(10)
        texts = [bytes(text).decode().replace("\r\n", "\n") for text in found]
        return texts[0], texts[1]

    yield read


saved = {number: os.dup(number) for number in (1, 2)}


def run(capture: Any, arguments: list[str]) -> dict[str, Any]:
    """Runs one command; returns its exit code and what it wrote."""
    with capture() as read:
        sys.argv = ["fiftyone-milvus", *arguments]
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = read()
    for number in (1, 2):
        os.dup2(saved[number], number)
    return {"arguments": arguments, "code": code, "out": out, "err": err}


def main() -> None:
    how, name, folder = sys.argv[1:]
    capture = terminals if how == "terminal" else files
    # Every other one with --json; into a terminal, those which had none into a pipe
    done = [
        run(capture, [*step, *(["--json"] if number % 2 == (how == "terminal") else [])])
        for number, step in enumerate(steps(name, folder))
    ]
    os.write(1, json.dumps(done).encode())


if __name__ == "__main__":
    main()
