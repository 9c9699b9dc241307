"""What is deleted, and undone, is the index's own."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import fiftyone as fo
import pytest
from fiftyone import ViewField as F

from fiftyone_milvus import inventory
from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.index import MilvusSimilarityIndex
from tests.cli.conftest import COUNT, Configure
from tests.cli.support import enter, read, refused
from tests.conftest import Engine

pytestmark = pytest.mark.parametrize("engine", ["embedded"], indirect=True)


@pytest.fixture
def collection(digits: fo.Dataset) -> str:
    """The collection of the index 'similar' of all digits."""
    name = f"vectors_{uuid.uuid4().hex[:8]}"
    create(digits, "similar", name)
    return name


def create(dataset: fo.Dataset, key: str, collection: str, *more: str, exit_code: int = 0) -> Any:
    arguments = ("create", dataset.name, key, "--collection-name", collection)
    return read(*arguments, "--model", MODEL, *more, exit_code=exit_code)


def vectors(engine: Engine, collection: str) -> int | None:
    """Returns how many vectors a collection has, or None if it is not there."""
    found = inventory.collections(inventory.configured(engine.kwargs["uri"]))
    return {info.name: info.vectors for info in found}.get(collection)


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Ctrl-C come when a sync has written all vectors."""
    sync = MilvusSimilarityIndex.sync

    def interrupted(self: MilvusSimilarityIndex, *args: Any, **kwargs: Any) -> None:
        sync(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(MilvusSimilarityIndex, "sync", interrupted)


def test_what_fails_drops_nothing_that_was_there(
    digits: fo.Dataset, configured: Engine, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = digits.name
    deleted = read("delete", name, "similar", "--only", "run", "--yes")
    assert (deleted["collection"], deleted["vectors"]) == (collection, 0)
    digits.reload()
    digits.add_sample(fo.Sample("/nowhere/1.png", number=1000))
    digits.save_view("bad", digits.match(F("number") == 1000))
    make = ("create", name, "similar", "--collection-name", collection, "--model", MODEL)
    said = refused(*make, "--view", "bad")
    assert "None of 1 could be embedded" in said
    assert vectors(configured, collection) == COUNT
    with monkeypatch.context() as context:
        interrupt(context)
        enter(*make, exit_code=130)
    digits.reload()
    assert digits.list_brain_runs() == []
    assert vectors(configured, collection) == COUNT

    # One that fails beside those that are there already leaves an index, and says so
    made = create(digits, "similar", collection, exit_code=1)
    assert (made["vectors"], len(made["failed"])) == (COUNT, 1)


def test_what_is_interrupted_leaves_nothing(
    digits: fo.Dataset, configured: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch)
    collection = f"vectors_{uuid.uuid4().hex[:8]}"
    make = ("create", digits.name, "similar", "--collection-name", collection, "--model", MODEL)
    enter(*make, exit_code=130)
    assert digits.list_brain_runs() == []
    assert vectors(configured, collection) is None


def test_a_collection_that_others_use(
    digits: fo.Dataset, configured: Engine, collection: str
) -> None:
    name = digits.name
    read("create", name, "other", "--collection-name", collection)
    said = refused("delete", name, "other", "--yes")
    assert said == (
        f"Not deleted: index 'other' has {COUNT} vectors in collection '{collection}', which was "
        "not made for it and is also used by 'similar'; pass --only run to keep the collection, or "
        "--drop-shared"
    )
    assert "which is also used by 'other'" in refused("delete", name, "similar", "--yes")
    # Without --yes it is the question that says so
    assert "is also used by 'other'. Delete all of it?" in refused("delete", name, "similar")
    digits.reload()
    assert {*digits.list_brain_runs()} == {"similar", "other"}

    read("delete", name, "other", "--only", "run", "--yes")
    read("create", name, "other", "--collection-name", collection)
    assert read("delete", name, "other", "--yes", "--drop-shared")["vectors"] == COUNT
    assert vectors(configured, collection) is None
    read("delete", name, "similar", "--yes")


def test_a_milvus_that_is_silent(digits: fo.Dataset, collection: str, configure: Configure) -> None:
    name = digits.name
    configure(uri="http://127.0.0.1:9")
    digits.clear_cache()
    # Before it asks
    assert "nothing listens there" in refused("delete", name, "similar")
    assert "nothing listens there" in refused("delete", name, "similar", "--yes")
    said = refused("search", "--everywhere", "--text", "a seven", "--model", MODEL)
    assert said.startswith("None of ")
    assert "nothing listens there" in said
    digits.reload()
    assert digits.list_brain_runs() == ["similar"]
    assert "keep collection" in refused("delete", name, "similar", "--only", "run")
    read("delete", name, "similar", "--only", "run", "--yes")


class Terminal:
    """Somebody who answers a question with Ctrl-C, or with the end of the input."""

    def __init__(self, answer: BaseException) -> None:
        self.answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1) -> str:
        raise self.answer


def test_ctrl_c_at_a_question(
    digits: fo.Dataset, configured: Engine, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer, exit_code in ((KeyboardInterrupt(), 130), (EOFError(), 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        _, err = enter("delete", digits.name, "similar", exit_code=exit_code)
        assert f"{COUNT} vectors" in err
    assert vectors(configured, collection) == COUNT
