"""Several processes embed for one sync."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import psutil
import pytest

from fiftyone_milvus.errors import InvalidInputError, WorkerError
from tests.cli.support import enter
from tests.support.indexes import KEY
from tests.syncing.shades import Shade, content, counts, expected, one_engine, sample


class Noted(Shade):
    """Notes in a folder which processes loaded it, and which image each of them embedded.

    Args:
        folder: the folder
        kills: the red of images that end the process: with a file of that name, only once
        hang: after how many images it does not go on
    """

    def __init__(
        self, folder: Path, kills: set[int] | None = None, hang: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.folder, self.kills, self.hang = folder, kills or set(), hang

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with (self.folder / "loaded").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def embed_all(self, args: Any) -> np.ndarray:
        for image in args:
            while self.images == self.hang:
                time.sleep(1)
            red = int(np.asarray(image)[0, 0, 0])
            with (self.folder / "embedded").open("a") as file:
                file.write(f"{os.getpid()} {red}\n")
            if red in self.kills and (mark := self.folder / str(red)).exists():
                mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().embed_all(args)

    def lines(self, name: str) -> list[list[str]]:
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def children() -> list[int]:
    found = psutil.Process().children(recursive=True)
    return [p.pid for p in found if "fiftyone_milvus.syncing.worker" in " ".join(p.cmdline())]


@one_engine
def test_all_processes_embed_and_a_lost_one_is_replaced(
    make: Any,
    dataset: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset.add_samples([sample(s.filepath) for s in dataset for _ in range(5)])
    bad = dataset.match(fo.ViewField("number") == 4).values("id")
    index = make(dataset)
    (tmp_path / "45").touch()
    seen: list[int] = []
    report = index.sync(
        model=Noted(tmp_path, kills={45}, bad={12}),
        batch_size=4,
        workers=2,
        progress=lambda bar: seen.append(bar.iteration),
    )
    assert content(index) == expected(dataset.exclude(bad))
    assert counts(report) == (174, 0, 0, 0, 6)
    assert set(report.failed.values()) == {"RuntimeError: red 12 is not for me"}
    assert report.lost_workers == 1
    assert "1 workers lost" in str(report)
    warned = [m for m in caplog.messages if "SIGKILL" in m]
    assert re.fullmatch(
        r"Worker \d was ended by SIGKILL; another one embeds its \d+ vectors", *warned
    )
    notes = Noted(tmp_path)
    loaded = [pid for (pid,) in notes.lines("loaded")]
    # The third may be too late to help
    assert len(loaded) == len(set(loaded)) in (2, 3), "the model is loaded once in each"
    assert {pid for pid, _ in notes.lines("embedded")} <= set(loaded)
    assert str(os.getpid()) not in loaded
    assert (seen, seen[-1]) == (sorted(seen), 180)
    assert not children()


@one_engine
def test_an_interruption_ends_the_processes_and_can_be_resumed(
    make: Any,
    dataset: Any,
    tmp_path: Path,
    engine: Any,
) -> None:
    dataset.add_samples([sample(s.filepath) for s in dataset for _ in range(5)])
    index = make(dataset)

    (tmp_path / "45").touch()
    model = Noted(tmp_path, kills={45}, hang=70)
    other = dataset.load_brain_results(KEY, cache=False, **engine.kwargs)

    def interrupt() -> None:
        while other.total_index_size < 64 or len(model.lines("embedded")) < 16 + 70:
            time.sleep(0.01)
        assert children()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        index.sync(model=model, workers=1)
    thread.join()
    assert not children()
    held = content(index)
    assert len(held) == 64, "the first part"
    assert len(model.lines("loaded")) == 2, "one in place of the lost one"
    assert held.items() <= expected(dataset).items()
    assert counts(index.sync(model=Shade())) == (180 - len(held), 0, 0, len(held), 0)
    assert content(index) == expected(dataset)
    assert not [t for t in threading.enumerate() if "_run" in t.name]


@one_engine
def test_a_part_that_ends_every_process(
    make: Any,
    dataset: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One attempt instead of three, as each takes seconds to start
    monkeypatch.setattr("fiftyone_milvus.syncing.workers._ATTEMPTS", 1)
    index = make(dataset)
    (tmp_path / "45").touch()
    with pytest.raises(WorkerError, match="The worker was ended by SIGKILL, 1 times with the same"):
        index.sync(model=Noted(tmp_path, kills={45}), workers=1)
    assert not children()
    assert not index.total_index_size


def test_the_command_loads_the_model_in_workers_only(
    colours: Any, model_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = fob.compute_similarity(
        colours, model="contract-colours", embeddings=False, brain_key=KEY, backend="milvus"
    )
    assert index.sync().added == 30
    loaded: list[str] = []
    monkeypatch.setattr("fiftyone.zoo.load_zoo_model", lambda name, **_: loaded.append(name))
    out, _ = enter("sync", colours.name, KEY, "--workers", "1")
    assert "30 unchanged" in out
    assert loaded == [], "nor is a process started, as nothing is missing"
    enter("sync", colours.name, KEY, "--workers", "0", exit_code=2)
    index.cleanup()


@one_engine
def test_what_workers_can_not_do(make: Any, dataset: Any) -> None:
    index = make(dataset, model=None)
    for kwargs, message in [
        ({"workers": 0, "model": Shade()}, "Invalid workers 0"),
        ({"workers": 2, "embeddings": np.ones((30, 5))}, "workers=2 embed with a model"),
        ({"workers": 2}, "workers=2 embed with a model"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            index.sync(**kwargs)

    class Local(Shade):
        pass

    with pytest.raises(InvalidInputError, match="The model Local can't be copied"):
        index.sync(model=Local(), workers=2)
    monkey = Shade()
    monkey.__class__ = type("Own", (Shade,), {"__module__": "__main__"})
    with pytest.raises(InvalidInputError, match="Own, as __main__ defines it"):
        index.sync(model=monkey, workers=2)
    assert not children()
