"""A service whose syncs are recorded: ``python -m tests.embedded.recorder ROOT JOURNAL MODE ...``.

The rest are the arguments of the service. From the journal, :func:`rebuild` makes the folder ROOT
as a disk may show it when the power failed after any of these syncs.
"""

from __future__ import annotations

import os
import pickle
import runpy
import sys
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

Entries = dict[str, tuple[int, bool]]
"""The names in a folder, with their inodes, and whether these are folders."""

MODES = ("fast", "plain", "unprotected")
MODELS = ("late names", "early names")


@dataclass(frozen=True)
class Sync:
    """A sync that has succeeded.

    Attributes:
        inode: of the file or folder
        content: of the file; None for a folder
        tree: the names in all folders at that moment, by inode
    """

    inode: int
    content: bytes | None
    tree: dict[int, Entries]


class Recorder:
    def __init__(self, root: Path, journal: Path) -> None:
        self._root, self._journal = root, journal
        self._lock = threading.Lock()
        self._kept: dict[int, int] = {}
        self._fsync = os.fsync
        os.fsync = self.fsync
        # What is there counts as synced, but for logs
        tree, files = self._look()
        for inode, path in files.items():
            if path.is_file() and not path.name.startswith("wal_"):
                self._append(Sync(inode, path.read_bytes(), tree))
        for inode, path in files.items():
            if path.is_dir() and path.name != "wal":
                self._append(Sync(inode, None, tree))

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        with self._lock:
            inode = os.fstat(descriptor).st_ino
            tree, files = self._look()
            path = files.get(inode)
            if path is None:
                return
            if inode not in self._kept:
                # While it is open, no other file gets its inode
                self._kept[inode] = os.dup(descriptor)
            self._append(Sync(inode, path.read_bytes() if path.is_file() else None, tree))

    def _append(self, sync: Sync) -> None:
        with open(self._journal, "ab") as stream:
            pickle.dump(astuple(sync), stream)

    def _look(self) -> tuple[dict[int, Entries], dict[int, Path]]:
        tree: dict[int, Entries] = {}
        files: dict[int, Path] = {}
        folders = [self._root]
        while folders:
            folder = folders.pop()
            try:
                found = list(os.scandir(folder))
                inode = folder.stat().st_ino
            except FileNotFoundError:
                continue
            files[inode] = folder
            tree[inode] = {entry.name: (entry.inode(), entry.is_dir()) for entry in found}
            files |= {entry.inode(): Path(entry) for entry in found}
            folders += [Path(entry) for entry in found if entry.is_dir()]
        return tree, files


def syncs(journal: BinaryIO) -> Iterator[Sync]:
    """Those that were recorded since the last call."""
    while True:
        start = journal.tell()
        try:
            yield Sync(*pickle.load(journal))
        except (EOFError, pickle.UnpicklingError):
            # Perhaps one that is being written
            journal.seek(start)
            return


def rebuild(done: list[Sync], root: int, target: Path, model: str) -> None:
    """Makes a folder as it may be found when the power failed after these syncs.

    A file has the content of its last sync, and none if it never was synced.

    Args:
        done: the syncs
        root: the inode of the folder
        target: where to
        model: with ``"late names"``, a folder has the names of its own last sync; with
            ``"early names"``, all names are those of the moment, as file systems have them that
            write names before contents
    """
    contents = {sync.inode: sync.content for sync in done if sync.content is not None}
    if model == "late names":
        tree = {s.inode: s.tree.get(s.inode, {}) for s in done if s.content is None}
    else:
        tree = done[-1].tree if done else {}

    def make(inode: int, folder: Path) -> None:
        folder.mkdir()
        for name, (child, is_folder) in tree.get(inode, {}).items():
            if is_folder:
                make(child, folder / name)
            else:
                (folder / name).write_bytes(contents.get(child, b""))

    make(root, target)


def main(root: str, journal: str, mode: str, *arguments: str) -> None:
    Recorder(Path(root), Path(journal))

    from fiftyone_milvus.embedded import self_test
    from fiftyone_milvus.embedded.storage import durability, power_loss

    changed: Any = self_test
    if mode != "fast":
        changed._fast_path_problem = lambda expected: "as the test wants"
    if mode == "unprotected":
        durability.install = list
        power_loss.sync_opened = lambda data_dir: None
    sys.argv[1:] = arguments
    runpy.run_module("fiftyone_milvus.embedded", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
