"""FiftyOne's database does not answer: every call ends in one line, and says for whom it waits."""

from __future__ import annotations

import inspect
import json
import os
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymongo.errors
import pytest

from fiftyone_milvus import errors
from fiftyone_milvus.backend import MilvusSimilarity
from fiftyone_milvus.dataset import availability
from fiftyone_milvus.index import MilvusSimilarityIndex
from tests.support.mongo import Mongo
from tests.support.processes import free_port
from tests.support.waiting import PATIENCE, wait_until
from tests.support.warm import WARM

SCRIPT = (Path(__file__).parent / "without_database.py").read_text()
LOST_IN_SYNC = (Path(__file__).parent / "lost_in_sync.py").read_text()


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[Mongo]:
    """One of the test's own, to freeze and to end."""
    mongo = Mongo(tmp_path / "mongo")
    yield mongo
    mongo.stop()


def test_every_call_ends_with_one_line(mongo: Mongo, embedded_path: Path, tmp_path: Path) -> None:
    # FiftyOne's driver waits for 30 s, unless the address says otherwise
    times = {"serverSelectionTimeoutMS": 1200, "connectTimeoutMS": 800, "socketTimeoutMS": 1200}
    options = "&".join(f"{name}={value}" for name, value in times.items())
    done = WARM.run(
        SCRIPT,
        f"{mongo.uri}/?heartbeatFrequencyMS=500&retryReads=false&{options}",
        str(mongo.pid),
        str(embedded_path),
        str(tmp_path),
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    for fault, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert len(found["errors"]) > 25
        host = f"FiftyOne's database at 127.0.0.1:{mongo.port} does not answer"
        for call, text in found["errors"].items():
            assert text.startswith(f"{host} ("), (fault, call, text)
            assert text.endswith(availability.REMEDY), (fault, call)
            assert len(text) < 300
            assert "\n" not in text
        # Once, although many calls wait
        assert found["warnings"] == [f"{host}; still waiting"], fault


@pytest.mark.parametrize("reads", ["samples", "columns"])
def test_lost_while_a_model_embeds(
    mongo: Mongo, embedded_path: Path, tmp_path: Path, reads: str
) -> None:
    def bring_back() -> None:
        wait_until((tmp_path / "lost").exists, 60)
        mongo.start_again()
        (tmp_path / "back").touch()

    with ThreadPoolExecutor(1) as pool:
        back = pool.submit(bring_back)
        done = WARM.run(
            LOST_IN_SYNC,
            f"{mongo.uri}/?serverSelectionTimeoutMS=1500&connectTimeoutMS=800",
            str(mongo.pid),
            str(embedded_path),
            str(tmp_path),
            reads,
        )
        back.result()
    assert done.returncode == 0, done.stderr
    # FiftyOne's log is on stdout, too
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    lost, found = map(json.loads, lines)
    host = f"FiftyOne's database at 127.0.0.1:{mongo.port} does not answer"
    if reads == "samples":
        assert lost["said"].startswith(f"FiftyOneDatabaseError: {host}")
        assert "\n" not in lost["said"]
    else:
        # IDs and paths were read before: nothing more is asked of the database
        assert lost["said"].startswith("120 added")
    # What was uploaded stays, and only the rest is embedded again
    assert found == {"added": 120 - lost["kept"], "right": True, "ids": True}


@pytest.fixture
def silent(monkeypatch: Any) -> str:
    """The database is one that does not answer, and everything takes less time."""
    monkeypatch.setattr(availability, "WARN_SECONDS", 0.05)
    monkeypatch.setattr(availability, "_ANSWER_MS", 100)
    monkeypatch.setattr(availability, "_next", 0.0)
    where = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(availability, "_uri", lambda: f"mongodb://me:secret@{where}/?a=b")
    return where


def test_a_long_call_is_not_the_databases_fault(silent: str, monkeypatch: Any) -> None:
    said: list[str] = []
    with availability.answering(say=said.append):
        wait_until(lambda: said, 20)
    assert said == [f"FiftyOne's database at {silent} does not answer; still waiting"]
    monkeypatch.undo()
    monkeypatch.setattr(availability, "WARN_SECONDS", 0.05)
    monkeypatch.setattr(availability, "_next", 0.0)
    with availability.answering(say=said.append):  # the tests' own answers
        wait_until(lambda: availability._next)
    assert len(said) == 1
    assert not availability._watcher.running
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("fiftyone-milvus-database") == 1


def test_nothing_is_said_of_a_call_that_has_ended(silent: str, monkeypatch: Any) -> None:
    asked, ended, said = threading.Event(), threading.Event(), list[str]()
    monkeypatch.setattr(availability, "_answers", lambda: asked.set() or not ended.wait(PATIENCE))
    with availability.answering(say=said.append):
        assert asked.wait(PATIENCE)
    ended.set()
    wait_until(lambda: availability._next)
    wait_until(lambda: not availability._watcher._awake.is_set())
    assert not said


def test_a_child_watches_its_own_calls(silent: str) -> None:
    with availability.answering():
        child = os.fork()
        if not child:
            said: list[str] = []
            availability._thread.inside = False
            with availability.answering(say=said.append):
                end = time.monotonic() + PATIENCE
                while not said and time.monotonic() < end:
                    time.sleep(0.05)
            os._exit(0 if said else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("raised", "ours"),
    [
        (pymongo.errors.ServerSelectionTimeoutError("a:1: refused (configured timeouts: b)"), True),
        (pymongo.errors.NetworkTimeout("timed out"), True),
        (pymongo.errors.AutoReconnect("connection closed"), True),
        (pymongo.errors.NotPrimaryError("it answers"), False),
        (pymongo.errors.OperationFailure("it refuses"), False),
        (ConnectionError("another's"), False),
        (errors.InvalidInputError("ours"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors(raised: Exception, ours: bool) -> None:
    kind = errors.FiftyOneDatabaseError if ours else type(raised)

    @availability.needs_database
    def inside() -> None:
        with pytest.raises(type(raised)), availability.answering():
            raise raised  # inside, the error stays what it is
        raise raised

    with pytest.raises(kind) as caught:
        inside()
    assert (caught.value is raised) == (not ours)
    if ours:
        assert caught.value.__suppress_context__  # the driver's page


def test_an_error_that_is_its_own_context() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert availability.explain(one) is None


@pytest.mark.parametrize("cls", [MilvusSimilarityIndex, MilvusSimilarity])
def test_no_public_method_is_left_out(cls: Any) -> None:
    members = {n: inspect.getattr_static(cls, n) for n in dir(cls) if not n.startswith("_")}
    methods = (classmethod, types.FunctionType)
    public = [n for n, member in members.items() if isinstance(member, methods)]
    bare = [n for n in public if not hasattr(getattr(cls, n), "__wrapped__")]
    assert not bare
    assert {"sync", "search", "cleanup"} & {*public}
