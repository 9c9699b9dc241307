"""Views on a server in its first minutes: before rows are sealed, and before they are indexed.

Half of the rows are in two clusters without structure, half in clusters that have fewer rows in a
view than are asked for: the rest of an answer is far, where approximate indexes find least.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.search.exactness import UNSEALED, is_settled
from fiftyone_milvus.search.planner import Searcher
from tests.support import oracle
from tests.support.indexes import KEY, Indexed, image_dataset, vectors

COUNT, DIM, K = 24_000, 64, 25
PART = 4_000
"""An upload of so many rows does not have them sealed."""
SHARES = (0.05, 0.2)


@pytest.fixture(scope="module")
def young(engine: Any) -> Iterator[Indexed]:
    """An index of rows that a server has neither sealed nor indexed: half in large clusters."""
    dataset = image_dataset(COUNT)
    ids = dataset.values("id")
    halves = [vectors(COUNT // 2, DIM, clusters=n, seed=n) for n in (2, 500)]
    data = np.concatenate(halves)[np.random.default_rng(5).permutation(COUNT)]
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", metric="cosine", **engine.kwargs
    )
    for start in range(0, COUNT, PART):
        index.add_to_index(data[start : start + PART], np.array(ids[start : start + PART]))
    table = dict(zip(ids, data, strict=True))
    indexed = Indexed(dataset, index, "cosine", table, dict(engine.kwargs))
    yield indexed
    indexed.drop()


def check(indexed: Indexed, state: str) -> None:
    """Searches find 0.99 of the nearest in views of scattered rows."""
    numbers = np.random.default_rng(7).permutation(COUNT)
    ids = indexed.dataset.values("id")
    for share in SHARES:
        chosen = numbers[: int(share * COUNT)].tolist()
        inside = [ids[i] for i in chosen]
        view = indexed.dataset.match(F("number").is_in(chosen))
        recalls = []
        for query in indexed.matrix()[:6]:
            scope = indexed.index._view_scope(view)
            (found,) = indexed.index._searcher.nearest(query[np.newaxis], K, scope)
            true = indexed.true(query[np.newaxis], among=inside)
            recalls.append(oracle.recall(found.ids, true, K))
        assert np.mean(recalls) >= 0.99, f"{state}, in a view of {share:.0%}"


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_recall_in_every_state(young, monkeypatch):
    collection = young.index._collection
    collection.wait_until_loaded()
    assert collection.segment_state().growing > UNSEALED
    assert not is_settled(collection)
    check(young, "growing")
    young.index.remove_from_index(young.ids[9::50])
    for i in young.ids[9::50]:
        del young.vectors[i]
    check(young, "after deletes")
    young.index.client.flush(collection.name)
    collection.wait_until_built()
    assert is_settled(collection)
    check(young, "indexed")
    _check_depth(young, monkeypatch)


def _check_depth(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide search asks for the depth of its last candidate, unless the user has set one."""
    asked: list[tuple[int, int]] = []
    search = MilvusCollection.search

    def spy(self: Any, queries: Any, limit: int, *, params: dict[str, Any], **kwargs: Any) -> Any:
        asked.append((limit, params["ef"]))
        return search(self, queries, limit, params=params, **kwargs)

    monkeypatch.setattr(MilvusCollection, "search", spy)
    view = indexed.dataset.match(F("number") % 50 == 0)
    for own in (None, {"ef": 300}):
        searcher = Searcher(indexed.index._collection, "cosine", own, plan="wide")
        searcher.nearest(indexed.matrix()[:1], K, indexed.index._view_scope(view))
    deep, shallow = asked[0], asked[-1]
    assert deep[1] == max(1024, 4 * deep[0])
    assert shallow[1] == max(300, shallow[0])
