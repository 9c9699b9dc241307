"""A collection that somebody releases while threads use it: each loads it, or finds it loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import oracle
from tests.support.indexes import Indexed, index_images

ROWS = 60


@pytest.fixture(scope="module")
def indexed(engine: Any) -> Iterator[Indexed]:
    indexed = index_images(engine, ROWS, "euclidean")
    indexed.index._collection.wait_until_loaded()
    yield indexed
    indexed.drop()


def test_no_call_fails_because_another_was_first(indexed: Indexed) -> None:
    collection, ids = indexed.index._collection, indexed.ids
    query = indexed.matrix(ids[:1])
    distances = oracle.aggregated("euclidean", query, indexed.matrix(), "mean")
    nearest = [ids[i] for i in distances.argsort()[:3]]
    calls: list[tuple[Callable[[], Any], Any]] = [
        (lambda: collection.search(query, 3, params={})[0].ids, nearest),
        (lambda: collection.search(query, 1, params={})[0].ids, nearest[:1]),
        (lambda: collection.count(), ROWS),
        (lambda: collection.fetch(ids[:5]).ids, ids[:5]),
        (lambda: sorted(collection.all_ids()[0]), sorted(ids)),
        (lambda: collection.delete(["0" * 24]), None),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in range(3):
            indexed.index.client.release_collection(collection.name)
            barrier = threading.Barrier(len(calls))

            def run(call: Callable[[], Any], barrier: threading.Barrier = barrier) -> Any:
                barrier.wait(60)
                return call()

            answers = list(pool.map(run, [call for call, _ in calls]))
            assert answers == [expected for _, expected in calls]
