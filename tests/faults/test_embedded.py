"""The embedded engine, in the middle of a sync."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from fiftyone_milvus import embedded as service
from fiftyone_milvus.errors import EngineError
from tests.faults.model import Slow, make_dataset, make_files
from tests.faults.support import STEPS, World, once_before
from tests.support.indexes import one_line, unique
from tests.support.small_disk import SmallDisk, on_small_disk


def test_service_is_killed(make, embedded, caplog):
    """The sync starts another and goes on."""
    world = make(embedded)
    killed = []

    def kill() -> None:
        killed.append(service.ensure(embedded["uri"]).pid)
        os.kill(killed[-1], signal.SIGKILL)

    with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
        report = world.sync(Slow(0, {100: kill, 400: kill, 900: kill}))
    assert report.added == 1000
    assert len(set(killed)) == 3
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    # None for one that was killed between two calls
    assert len(warnings) <= 3
    assert set(warnings) <= {
        f"The service of {embedded['uri']} does not answer; trying again for 60 s"
    }
    world.complete()


@pytest.mark.parametrize("step", STEPS)
def test_service_is_killed_before_there_is_a_collection(make, embedded, monkeypatch, step):
    world = make(embedded)
    killed = []

    def kill() -> None:
        killed.append(service.ensure(embedded["uri"]).pid)
        os.kill(killed[-1], signal.SIGKILL)

    report = world.sync(Slow(0, {10: lambda: once_before(monkeypatch, step, kill)}))
    assert (report.added, report.failed, len(killed)) == (1000, {}, 1)
    assert service.ensure(embedded["uri"]).pid not in killed
    assert not [n for n in world.index.client.list_collections() if "discarded" in n]
    world.complete()


def full_disk(disk: SmallDisk) -> None:
    import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)

    files = make_files(Path(tempfile.mkdtemp(dir=disk.folder)))
    path = disk.folder / "data.db"
    world = World.make(make_dataset(unique("faults"), files, 1000), {"uri": str(path)})

    def fill() -> None:
        world.wait_for(100)
        disk.fill()

    try:
        with pytest.raises(EngineError, match="No space left on device") as error:
            world.sync(Slow(0, {400: fill}))
        assert str(path) in one_line(error.value)
        assert "free some" in one_line(error.value)
        written = len(world.content())
        assert 0 < written < 1000

        with pytest.raises(EngineError, match="No space left on device"):
            world.sync()
        disk.make_room()
        world.goes_on(written)
    finally:
        service.stop(path)
        world.dataset.delete()


def test_disk_is_full():
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    try:
        on_small_disk(full_disk, folder / "disk", megabytes=120)
    finally:
        shutil.rmtree(folder)
