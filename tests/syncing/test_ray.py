"""Actors of a Ray cluster embed for one sync; the cluster is real, with several nodes."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.errors import InvalidInputError, WorkerError
from fiftyone_milvus.syncing import ray_pool
from tests.cli.support import enter
from tests.faults.wire import Wire
from tests.support.indexes import KEY
from tests.support.processes import alive, free_port
from tests.support.waiting import PATIENCE, wait_until
from tests.syncing.remote_model import Noted
from tests.syncing.shades import Shade, content, counts, expected, one_engine, sample

# A cluster and its drivers take many processes, each of which imports FiftyOne
pytestmark = pytest.mark.timeout(900)

FREE = "a free processor"
_ROOT = Path(__file__).parents[2]
_NODE = {
    "num_cpus": 1,
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    "include_log_monitor": False,
}
_HEAD = {"num_cpus": 0, "no_monitor": True}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of a head, which embeds nothing, and two nodes with a processor each."""
    folder = tempfile.mkdtemp(prefix="fom-")
    with pytest.MonkeyPatch.context() as context:
        context.setenv("RAY_USAGE_STATS_ENABLED", "0")
        context.setenv("RAY_TMPDIR", folder)
        # On the loopback interface only
        context.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Ray makes its workers yield to all others, as to tests that run beside these
        context.setenv("RAY_worker_niceness", "0")
        context.setenv("RAY_health_check_period_ms", "300")
        context.setenv("RAY_health_check_failure_threshold", "3")
        context.setenv("RAY_health_check_initial_delay_ms", "300")
        context.delenv("RAY_ADDRESS", raising=False)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={**_NODE, **_HEAD})
        try:
            for _ in range(2):
                cluster.add_node(**_NODE)
            yield cluster
        finally:
            cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def many(dataset: Any) -> Any:
    """A dataset of 180 samples."""
    dataset.add_samples([sample(s.filepath) for s in dataset for _ in range(5)])
    return dataset


def until(true: Callable[[], object], driver: subprocess.Popen[str] | None = None) -> None:
    """Waits until something is true; fails at once if the process has ended that is to do it."""
    wait_until(lambda: true() or (driver is not None and driver.poll() is not None))
    assert true(), driver and driver.communicate()[0]


def gone(model: Noted) -> bool:
    return not any(alive(int(pid)) for pid, _ in model.lines("loaded"))


@one_engine
def test_all_actors_embed_and_a_lost_one_is_replaced(
    cluster: Any,
    make: Any,
    many: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    before = signal.getsignal(signal.SIGTERM)
    bad = many.match(fo.ViewField("number") == 4).values("id")
    index = make(many)
    (tmp_path / "45").touch()
    model, seen = Noted(tmp_path, bad=12), []
    with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
        report = index.sync(
            model=model, batch_size=4, ray="auto", progress=lambda bar: seen.append(bar.iteration)
        )
    assert content(index) == expected(many.exclude(bad))
    assert counts(report) == (174, 0, 0, 0, 6)
    assert report.failed == dict.fromkeys(bad, "RuntimeError: red 12 is not for me")
    assert report.lost_workers == 1
    assert re.search(
        r"Worker \d on 127.0.0.1 was lost \(\w+\); another one embeds its \d+ vectors", caplog.text
    )
    assert "2 nodes with room for workers; up to 2 workers embed, and this process" in caplog.text
    assert "writes to the embedded engine" in caplog.text
    # Each loaded the model once, and no process knew where FiftyOne's database is
    loaded = model.lines("loaded")
    assert len({pid for pid, _ in loaded}) == len(loaded) in (2, 3)
    assert {uri for _, uri in loaded} == {"None"}
    assert len({pid for pid, _ in model.lines("embedded")}) >= 2
    assert (seen, seen[-1]) == (sorted(seen), 180)
    until(lambda: gone(model))
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before


@one_engine
def test_an_interruption_can_be_resumed(
    cluster: Any, make: Any, many: Any, tmp_path: Path, engine: Any
) -> None:
    import ray

    index = make(many)
    (tmp_path / "hold").touch()
    model = Noted(tmp_path, hold_at=64)
    other = many.load_brain_results(KEY, cache=False, **engine.kwargs)

    def interrupt() -> None:
        until(lambda: model.lines("held") and other.total_index_size >= 64)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        index.sync(model=model, ray=cluster.address, workers=1)
    thread.join()
    assert not ray.is_initialized()
    until(lambda: gone(model))
    held = content(index)
    assert len(held) == 64
    assert held.items() <= expected(many).items()
    assert counts(index.sync(model=Shade())) == (116, 0, 0, 64, 0)
    assert content(index) == expected(many)


@one_engine
def test_a_node_is_lost_and_the_others_go_on(
    cluster: Any,
    make: Any,
    many: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    index = make(many)
    (tmp_path / "hold").touch()
    model = Noted(tmp_path)

    def kill() -> None:
        until(lambda: len(model.lines("held")) == 2)
        # A driver ends with the node that it is connected to
        own = ray.get_runtime_context().get_node_id()
        node = next(node for node in cluster.worker_nodes if node.node_id != own)
        cluster.remove_node(node, allow_graceful=False)
        until(lambda: "was lost" in caplog.text)
        monkeypatch.setattr(ray_pool, "_SAY_SECONDS", 0.0)
        until(lambda: f"1 of 2 workers; the others wait until a node has {FREE}" in caplog.text)
        (tmp_path / "hold").unlink()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        # The replaced one finds no room, and does not hold up the end
        report = index.sync(model=model, ray=cluster.address, workers=2)
    finally:
        thread.join()
        cluster.add_node(**_NODE)
    assert counts(report) == (180, 0, 0, 0, 0)
    assert report.lost_workers == 1
    assert content(index) == expected(many)
    assert len(model.lines("loaded")) == 2


def _driver(dataset: Any, kwargs: Any, ray: str, folder: Path, *more: str, **env: str) -> Any:
    """Syncs the index in a process of its own."""
    command = [sys.executable, "-m", "tests.syncing.ray_driver", dataset.name, KEY]
    command += [json.dumps(kwargs), ray, str(folder), *more]
    return subprocess.Popen(
        command, cwd=_ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    )


@one_engine
def test_the_driver_is_killed_and_started_again(
    cluster: Any, make: Any, many: Any, tmp_path: Path, engine: Any
) -> None:
    index = make(many)
    (tmp_path / "hold").touch()
    model = Noted(tmp_path)
    driver = _driver(many, engine.kwargs, cluster.address, tmp_path)
    try:
        until(lambda: model.lines("held") and index.total_index_size >= 64, driver)
    finally:
        driver.kill()
        driver.communicate()
    until(lambda: gone(model))
    (tmp_path / "hold").unlink()
    held = content(index)
    report = index.sync(model=model, ray=cluster.address, workers=1)
    assert (report.added, report.unchanged) == (180 - len(held), len(held))
    assert content(index) == expected(many)


@one_engine
def test_a_worker_joins_when_there_is_room(
    cluster: Any, make: Any, many: Any, tmp_path: Path, engine: Any
) -> None:
    index = make(many)
    (tmp_path / "hold").touch()
    model = Noted(tmp_path)
    # Ray adds nodes in the main thread only
    driver = _driver(many, engine.kwargs, cluster.address, tmp_path, "3", "0")
    added = None
    try:
        until(lambda: len(model.lines("held")) == 2, driver)
        added = cluster.add_node(**_NODE)
        until(lambda: len(model.lines("held")) == 3, driver)
        (tmp_path / "hold").unlink()
        out, _ = driver.communicate(timeout=PATIENCE)
    finally:
        driver.kill()
        driver.communicate()
        if added:
            cluster.remove_node(added)
    assert out.splitlines()[-1] == "done 180 0"
    assert content(index) == expected(many)


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_mongodb_and_milvus_are_away_for_a_while(
    cluster: Any, make: Any, many: Any, tmp_path: Path, engine: Any
) -> None:
    index = make(many)
    milvus = Wire(int(engine.kwargs["uri"].rsplit(":", 1)[1].split("/")[0]))
    mongo = Wire(int(os.environ["FIFTYONE_DATABASE_URI"].rsplit(":", 1)[1].split("/")[0]))
    (tmp_path / "hold").touch()
    model = Noted(tmp_path)
    driver = _driver(
        many,
        {**engine.kwargs, "uri": milvus.uri},
        cluster.address,
        tmp_path,
        FIFTYONE_DATABASE_URI=mongo.uri.replace("http", "mongodb"),
    )
    try:
        until(lambda: model.lines("held") and index.total_index_size >= 64, driver)
        mongo.cut()
        milvus.cut()
        (tmp_path / "hold").unlink()
        time.sleep(20)
        mongo.mend()
        milvus.mend()
        out, _ = driver.communicate(timeout=PATIENCE)
    finally:
        driver.kill()
        driver.communicate()
        mongo.cut()
        milvus.cut()
    assert out.splitlines()[-1] == "done 180 0"
    assert driver.returncode == 0
    assert content(index) == expected(many)


@one_engine
def test_media_that_a_node_can_not_read(
    cluster: Any, make: Any, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What this is depends on the process
    monkeypatch.chdir(Path(files[0]).parent)
    dataset = fo.Dataset()
    dataset.add_samples([sample(f"/proc/self/cwd/{Path(file).name}") for file in files[:30]])
    index = make(dataset)
    model = Noted(tmp_path)
    message = r"Ray's node at 127.0.0.1 can't read 30 of 30 media that were tried, such as '/proc/"
    with pytest.raises(InvalidInputError, match=message):
        index.sync(model=model, ray=cluster.address)
    assert not model.lines("embedded")
    assert not index.total_index_size
    monkeypatch.chdir(_ROOT)
    with pytest.raises(InvalidInputError, match="No node of Ray can read any of the 30 media"):
        index.sync(model=model, ray=cluster.address)
    dataset.delete()


def test_the_command_embeds_patches(
    cluster: Any, colours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patches need FiftyOne's database, whose address reaches the actors and no file."""
    secret = "not-for-others"
    monkeypatch.setattr(
        fo.config, "database_uri", f"{os.environ['FIFTYONE_DATABASE_URI']}/?appName={secret}"
    )
    index = fob.compute_similarity(
        colours,
        model="contract-colours",
        patches_field="ground_truth",
        embeddings=False,
        brain_key=KEY,
        backend="milvus",
    )
    out, _ = enter("sync", colours.name, KEY, "--ray", cluster.address, "--workers", "1")
    assert "60 added" in out
    logs = [file for file in Path(os.environ["RAY_TMPDIR"]).rglob("*") if file.is_file()]
    assert len(logs) > 10
    assert not [file for file in logs if secret.encode() in file.read_bytes()]
    found = content(index)
    assert counts(index.sync()) == (0, 0, 0, 60, 0)
    index.cleanup()
    index = fob.compute_similarity(
        colours,
        model="contract-colours",
        patches_field="ground_truth",
        brain_key="here",
        backend="milvus",
    )
    assert content(index) == found
    index.cleanup()


@one_engine
def test_what_ray_can_not_do(make: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make(dataset, model=None)
    model = Shade()
    nowhere = f"127.0.0.1:{free_port()}"
    for kwargs, message in [
        ({"ray": True}, "Invalid ray True; expected 'auto', or HOST:PORT"),
        ({"ray": "ray://127.0.0.1:10001"}, "Invalid ray 'ray://127.0.0.1:10001'"),
        ({"ray": "auto", "shard": (0, 2)}, "Give either ray or shard"),
        ({"ray": "auto", "gpus_per_worker": 1.5}, "Invalid gpus_per_worker 1.5"),
        ({"ray": "auto", "workers": 0}, "Invalid workers 0"),
        ({"workers": 2, "gpus_per_worker": 1}, "gpus_per_worker is for ray="),
        ({"ray": "auto", "embeddings": np.ones((30, 5))}, "ray='auto' workers embed with a model"),
    ]:
        with pytest.raises(InvalidInputError, match=re.escape(message)):
            index.sync(**{"model": None if "embeddings" in kwargs else model, **kwargs})
    with pytest.raises(WorkerError, match=f"No Ray cluster answers at '{nowhere}'"):
        index.sync(model=model, ray=nowhere)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInputError, match=re.escape("pip install 'fiftyone-milvus[ray]'")):
        index.sync(model=model, ray="auto")
    assert not model.images


@one_engine
def test_a_cluster_that_can_not_help(
    cluster: Any, make: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no GPU, or another version; a driver of it stays one."""
    import ray

    index = make(dataset)
    model = Noted(Path())
    free = f"{FREE} and 1 free GPUs"
    with pytest.raises(InvalidInputError, match=f"No node of Ray has {free}; pass workers=N"):
        index.sync(ray=cluster.address, model=model, gpus_per_worker=1)
    _, said = enter("sync", dataset.name, KEY, "--ray", cluster.address, "--gpus", "1", exit_code=1)
    assert f"No node of Ray has {free}" in said
    assert not ray.is_initialized()
    ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with pytest.raises(InvalidInputError, match=f"a driver of Ray at {cluster.address}, not"):
            index.sync(ray="127.0.0.1:1", model=model)
        with pytest.MonkeyPatch.context() as context:
            context.setattr(ray_pool, "_SAY_SECONDS", 0.0)
            context.setattr(ray_pool, "_START_SECONDS", 0.0)
            message = f"Ray has started no worker within 0 s, as no node has {free}"
            with pytest.raises(WorkerError, match=message):
                index.sync(ray="auto", model=model, gpus_per_worker=1, workers=1)
        monkeypatch.setattr(ray_pool, "__version__", "0.0.0")
        message = r"Ray's node at 127.0.0.1 has fiftyone-milvus [\d.]+, and this process 0.0.0; run"
        with pytest.raises(InvalidInputError, match=message):
            index.sync(ray=cluster.address, model=model)
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert not index.total_index_size
