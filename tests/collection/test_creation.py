"""Whoever makes a collection at the same time as others ends up in the same one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fiftyone_milvus.collection import CollectionSpec, MilvusCollection
from fiftyone_milvus.connection import Settings, resolve
from fiftyone_milvus.connection.connection import Connection
from fiftyone_milvus.errors import CollectionMismatchError, EngineError
from fiftyone_milvus.writing.validation import Batch
from fiftyone_milvus.writing.writer import Writer
from tests.conftest import Engine
from tests.support.indexes import unique

DIM = 8
CREATORS = 4


@pytest.fixture
def collections(engine: Engine) -> Iterator[Callable[[], MilvusCollection]]:
    """Makes views of one collection, each through a connection of its own, as processes have."""
    name = unique("race")
    target = resolve(Settings.parse(engine.kwargs), None)
    made: list[MilvusCollection] = []

    def make() -> MilvusCollection:
        made.append(MilvusCollection(Connection(target), name))
        return made[-1]

    yield make
    made[0].drop()
    for collection in made:
        collection.connection.close()


def create(collection: MilvusCollection, **changes: Any) -> bool:
    spec = CollectionSpec(DIM, "L2", "FLAT", owner={"brain_key": "same"})
    return collection.create(replace(spec, **changes))


def rows(ids: range, value: float) -> Batch:
    keys = [f"{i:04d}" for i in ids]
    return Batch(keys, keys, np.full((len(keys), DIM), value, dtype=np.float32))


def test_one_makes_it_and_all_write_to_it(collections: Callable[[], MilvusCollection]) -> None:
    racers = [collections() for _ in range(CREATORS)]
    for racer in racers:
        racer.connection.client  # noqa: B018  (none should win because it is connected)
    line = threading.Barrier(CREATORS)

    def race(i: int) -> bool:
        line.wait()
        made = create(racers[i])
        # All have 20 keys in common, and ten each alone
        with Writer(racers[i], replace=not made) as writer:
            writer.add(rows(range(20), 1.0))
            writer.add(rows(range(100 * (i + 1), 100 * (i + 1) + 10), i + 2.0))
        return made

    with ThreadPoolExecutor(CREATORS) as pool:
        made = list(pool.map(race, range(CREATORS)))
    assert made.count(True) == 1
    assert not any(racer.discard() for racer in racers), "others have written to it"
    expected = [f"{i:04d}" for i in range(20)]
    expected += [f"{100 * (i + 1) + j:04d}" for i in range(CREATORS) for j in range(10)]
    reader = collections()
    assert reader.all_ids()[0] == sorted(expected)
    assert reader.count(strong=True) == len(expected)


@pytest.mark.parametrize("changes", [{"dimension": 2 * DIM}, {"metric_type": "COSINE"}])
def test_what_another_made_otherwise_is_not_touched(
    collections: Callable[[], MilvusCollection], changes: dict[str, Any]
) -> None:
    first, second = collections(), collections()
    assert create(first)
    with Writer(first, replace=False) as writer:
        writer.add(rows(range(5), 1.0))
    with pytest.raises(CollectionMismatchError, match=first.name) as error:
        create(second, **changes)
    assert "\n" not in str(error.value)
    assert first.count(strong=True) == 5


def test_a_failure_drops_what_it_made_only(collections: Callable[[], MilvusCollection]) -> None:
    first, second = collections(), collections()
    with pytest.raises(EngineError, match="metric"):
        create(first, metric_type="NONSENSE")
    assert not first.exists()
    assert create(first)
    with pytest.raises(CollectionMismatchError):
        create(second, metric_type="NONSENSE")
    assert first.exists()
    assert not second.discard()
    assert first.discard()
    assert not first.exists()


def test_one_seen_before_it_has_its_index_serves(
    collections: Callable[[], MilvusCollection],
) -> None:
    first, second = collections(), collections()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MilvusCollection, "_make_index", lambda *_: None)
        patch.setattr(MilvusCollection, "_load", lambda *_, **__: None)
        assert create(first)
    assert second.layout.metric_type is None
    first.connection.client.create_index(
        first.name, first._index("vector", "L2", "FLAT", {}), sync=False
    )
    assert not create(second)
    assert second.layout.metric_type == "L2"


def test_a_maker_that_died_is_replaced(collections: Callable[[], MilvusCollection]) -> None:
    """Its collection has no index yet, and never gets one from it."""
    dead, heir = collections(), collections()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MilvusCollection, "_make_index", lambda *_: (_ for _ in ()).throw(SystemExit))
        patch.setattr(MilvusCollection, "discard", lambda _: False)
        with pytest.raises(SystemExit):
            create(dead)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fiftyone_milvus.collection.creation._JOIN_SECONDS", 0.2)
        assert not create(heir)
    with Writer(heir, replace=True) as writer:
        writer.add(rows(range(3), 1.0))
    assert heir.count(strong=True) == 3
