"""An index that is synced and must hold exactly its dataset's content."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np

from fiftyone_milvus.collection import MilvusCollection
from tests.faults.model import KEY, Slow, truth
from tests.support.waiting import wait_until
from tests.support.warm import WARM

_ROOT = Path(__file__).parents[2]

STEPS = ("present", "create", "_is_mine", "_load")
"""What makes a collection: each may be the first that Milvus does not answer."""


@dataclass
class World:
    """A dataset, and an index of it that is still empty."""

    dataset: fo.Dataset
    kwargs: dict[str, Any]
    index: Any

    @classmethod
    def make(cls, dataset: fo.Dataset, kwargs: dict[str, Any]) -> World:
        index = fob.compute_similarity(
            dataset,
            embeddings=False,
            brain_key=KEY,
            backend="milvus",
            # Named, as their lengths differ, which is said by default
            metric="dotproduct",
            **kwargs,
        )
        return cls(dataset, kwargs, index)

    def sync(self, model: Slow | None = None, **options: Any) -> Any:
        return self.index.sync(model=model or Slow(0), batch_size=16, **options)

    def wait_for(self, rows: int) -> None:
        """Waits, in the model, until so many rows are there."""
        wait_until(lambda: self.index.total_index_size >= rows)

    def content(self) -> dict[str, int]:
        """The number of the image whose embedding each ID has; nothing is there twice."""
        vectors, ids, _ = self.index.get_embeddings()
        assert len(set(ids)) == len(ids) == self.index.total_index_size
        numbers = dict(zip(self.dataset.values("id"), self.dataset.values("number"), strict=True))
        unknown = set(ids) - set(numbers)
        assert not unknown
        for _id, vector in list(zip(ids, vectors, strict=True))[:: max(1, len(ids) // 97)]:
            np.testing.assert_array_equal(vector, truth(numbers[_id]))
        return {_id: numbers[_id] for _id in ids}

    def goes_on(self, acknowledged: int = 0) -> None:
        """After a fault: what was acknowledged is there, and a second sync does only the rest."""
        before = self.content()
        assert len(before) >= acknowledged
        model = Slow(0)
        report = self.sync(model)
        total = len(self.dataset)
        assert (report.added, report.unchanged) == (total - len(before), len(before))
        assert model.images == report.added
        assert not report.failed
        self.complete()

    def complete(self) -> None:
        """The index holds exactly the dataset's content, and a sync finds nothing to do."""
        assert set(self.content()) == set(self.dataset.values("id"))
        model = Slow(0)
        report = self.sync(model)
        assert (report.added, report.removed, report.unchanged) == (0, 0, len(self.dataset))
        assert model.images == 0


class Child:
    """A process that syncs an index; see ``child.py``."""

    def __init__(self, world: World, seconds: float) -> None:
        code = "import sys; from tests.faults import child; child.main(*sys.argv[1:])"
        arguments = [world.dataset.name, json.dumps(world.kwargs), str(seconds)]
        self.process = WARM.start(code, *arguments, cwd=_ROOT)
        self.acknowledged = 0
        self.report: tuple[int, int] | None = None

    def go(self) -> None:
        assert self._line() == ["ready"]
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def until(self, rows: int) -> None:
        """Waits until so many rows are acknowledged."""
        while self.acknowledged < rows:
            self._read()

    def kill(self) -> None:
        """Ends it as ``kill -9`` does, and reads what it said before."""
        self.process.kill()
        self.process.wait()
        while line := self._line():
            self._note(line)
        assert self.report is None, "it was done before it was killed"

    def finish(self) -> tuple[int, int]:
        """Waits for its report: how many rows it added, and found."""
        while self.report is None:
            self._read()
        assert self.process.wait() == 0
        return self.report

    def close(self) -> None:
        self.process.close()

    def _read(self) -> None:
        line = self._line()
        assert line, "it ended"
        self._note(line)

    def _line(self) -> list[str]:
        return self.process.stdout.readline().split()

    def _note(self, line: list[str]) -> None:
        if line[0] == "acknowledged":
            self.acknowledged = int(line[1])
        elif line[0] == "done":
            self.report = int(line[1]), int(line[2])


def once_before(monkeypatch: Any, step: str, call: Callable[[], object]) -> None:
    """Calls something before the next of these steps of a collection."""
    original = getattr(MilvusCollection, step)

    def first(self: MilvusCollection, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(MilvusCollection, step, original)
        call()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(MilvusCollection, step, first)


@contextmanager
def later(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    """Calls something from another thread after some seconds."""
    timer = threading.Timer(seconds, call)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def interrupt() -> None:
    """What the terminal does at Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds
