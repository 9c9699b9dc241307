"""Random sequences of writes, searches and views against a dictionary."""

from __future__ import annotations

from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fiftyone_milvus.errors import ExistingIDsError, MissingIDsError
from tests.support import oracle
from tests.support.indexes import image_dataset, one_line

SAMPLES = 24
DIM = 8
METRIC = "euclidean"

positions = st.integers(0, SAMPLES - 1)
some = st.lists(positions, min_size=1, max_size=8, unique=True)
# Whole numbers: exact in float32, and equal vectors turn up, as in real data.
whole = st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM)
ks = st.one_of(st.none(), st.integers(1, SAMPLES + 5))


class IndexMachine(RuleBasedStateMachine):
    """One index, emptied between runs, and what it must hold."""

    index: Any
    ids: list[str]
    dataset: Any

    @initialize()
    def empty(self) -> None:
        self.index.clear_view()
        # So that there is a collection, if an empty one
        self.index.add_to_index(self._rows(0, 1), np.array(self.ids[:1]))
        self.index.remove_from_index(sample_ids=self.ids)
        self.held: dict[str, np.ndarray] = {}
        self.view: list[str] | None = None

    def _rows(self, seed: int, count: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.integers(-3, 4, size=(count, DIM)).astype(np.float32)

    def _inside(self) -> dict[str, np.ndarray]:
        if self.view is None:
            return self.held
        return {_id: self.held[_id] for _id in self.view if _id in self.held}

    @rule(where=some, seed=st.integers(0, 10**6), overwrite=st.booleans())
    def add(self, where: list[int], seed: int, overwrite: bool) -> None:
        ids = [self.ids[i] for i in where]
        data = self._rows(seed, len(ids))
        self.index.add_to_index(data, np.array(ids), overwrite=overwrite)
        for _id, row in zip(ids, data, strict=True):
            if overwrite or _id not in self.held:
                self.held[_id] = row

    @rule(where=some, seed=st.integers(0, 10**6))
    def add_only_new(self, where: list[int], seed: int) -> None:
        ids = [self.ids[i] for i in where]
        data = self._rows(seed, len(ids))
        kwargs = {"overwrite": False, "allow_existing": False}
        if any(_id in self.held for _id in ids):
            with pytest.raises(ExistingIDsError) as error:
                self.index.add_to_index(data, np.array(ids), **kwargs)
            one_line(error.value)
        else:
            self.index.add_to_index(data, np.array(ids), **kwargs)
            self.held.update(zip(ids, data, strict=True))

    @rule(where=some, seed=st.integers(0, 10**6))
    def add_one_twice(self, where: list[int], seed: int) -> None:
        ids = [self.ids[i] for i in where]
        with pytest.raises(ExistingIDsError):
            self.index.add_to_index(self._rows(seed, len(ids) + 1), np.array([*ids, ids[0]]))

    @rule(where=some)
    def remove(self, where: list[int]) -> None:
        ids = [self.ids[i] for i in where]
        self.index.remove_from_index(sample_ids=ids)
        for _id in ids:
            self.held.pop(_id, None)

    @rule(where=some)
    def remove_only_known(self, where: list[int]) -> None:
        ids = [self.ids[i] for i in where]
        if all(_id in self.held for _id in ids):
            self.index.remove_from_index(sample_ids=ids, allow_missing=False)
            for _id in ids:
                del self.held[_id]
        else:
            with pytest.raises(MissingIDsError):
                self.index.remove_from_index(sample_ids=ids, allow_missing=False)

    @rule(where=some)
    def use_view(self, where: list[int]) -> None:
        self.view = [self.ids[i] for i in where]
        self.index.use_view(self.dataset.select(self.view))

    @rule()
    def clear_view(self) -> None:
        self.view = None
        self.index.clear_view()

    @rule()
    def reload(self) -> None:
        self.index.reload()

    @rule(query=whole, k=ks, reverse=st.booleans())
    def search(self, query: list[int], k: int | None, reverse: bool) -> None:
        inside = self._inside()
        ids, _, dists = self.index._kneighbors(
            query=np.array(query, dtype=np.float32), k=k, reverse=reverse, return_dists=True
        )
        true: dict[Any, float] = {}
        if inside:
            row = oracle.distances(METRIC, query, np.stack(list(inside.values())))[0]
            true = dict(zip(inside, row.tolist(), strict=True))
        # The square root of a float32 square: 1e-3 is what is left near zero.
        oracle.check_ranking(ids, true, k, reverse=reverse, reported=dists, atol=2e-3)

    @rule(where=positions, k=st.integers(1, 6))
    def search_by_id(self, where: int, k: int) -> None:
        _id, inside = self.ids[where], self._inside()
        if _id not in self.held:
            with pytest.raises(ValueError, match=_id):
                self.index._kneighbors(query=_id, k=k)
            return
        ids, _ = self.index._kneighbors(query=_id, k=k)
        true: dict[Any, float] = {}
        if inside:
            row = oracle.distances(METRIC, self.held[_id], np.stack(list(inside.values())))[0]
            true = dict(zip(inside, row.tolist(), strict=True))
        oracle.check_ranking(ids, true, k, atol=2e-3)

    @rule(where=some)
    def get(self, where: list[int]) -> None:
        asked = [self.ids[i] for i in where]
        embeddings, ids, _ = self.index.get_embeddings(sample_ids=asked)
        expected = [_id for _id in asked if _id in self.held]
        assert list(ids) == expected
        for _id, row in zip(ids, embeddings, strict=True):
            np.testing.assert_array_equal(row, self.held[_id])

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "held"):
            return
        assert self.index.total_index_size == len(self.held)
        assert self.index.index_size == len(self._inside())

    @rule()
    def all_ids(self) -> None:
        assert sorted(self.index.sample_ids) == sorted(self.held)
        assert sorted(self.index.current_sample_ids) == sorted(self._inside())


EXAMPLES = {"embedded": 80, "server": 7}


def test_any_sequence_of_operations(engine):
    dataset = image_dataset(SAMPLES)
    index = fob.compute_similarity(
        dataset,
        embeddings=False,
        brain_key="sim",
        backend="milvus",
        metric=METRIC,
        **engine.kwargs,
    )
    bound = {"index": index, "dataset": dataset, "ids": dataset.values("id")}
    machine = type("BoundIndexMachine", (IndexMachine,), bound)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES[engine.name],
                stateful_step_count=15,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        index.cleanup()
        dataset.delete()
