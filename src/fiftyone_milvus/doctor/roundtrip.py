"""Checks that a collection can be created, filled, searched and dropped."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fiftyone_milvus.collection import CollectionSpec, MilvusCollection
from fiftyone_milvus.collection.temporary import temporary
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.doctor.verdict import Verdict, advice
from fiftyone_milvus.errors import EngineError, FiftyOneMilvusError, PermissionDeniedError
from fiftyone_milvus.schema import index_types
from fiftyone_milvus.search.planner import Searcher
from fiftyone_milvus.writing import writer
from fiftyone_milvus.writing.validation import Batch

_ROWS, _DIMENSION, _NEAREST = 100, 16, 10
_PRIVILEGES = (
    "CreateCollection, DropCollection, DescribeCollection, ShowCollections, CreateIndex, "
    "IndexDetail, Load, GetLoadState, Insert, Upsert, Delete, Query, Search, Flush"
)


def run(connection: Connection) -> Verdict:
    """Runs every operation that an index needs; names the step that fails.

    The collection is temporary; after a crash it is an orphaned collection.
    """
    steps = _Steps()
    problem: FiftyOneMilvusError | None = None
    try:
        with temporary(connection, _owner(), "a check") as (collection, owner):
            collection.timeout = 60
            try:
                _try(collection, owner, steps)
            except FiftyOneMilvusError as error:
                # A following error of the drop says less
                problem = error
    except FiftyOneMilvusError as error:
        problem = problem or error
    if problem is not None:
        found, remedy = advice(problem)
        if isinstance(problem, PermissionDeniedError):
            remedy = f"grant the user's role {_PRIVILEGES}"
        return Verdict("round trip", "problem", f"can't {steps.current}: {found}", remedy)
    return Verdict("round trip", "ok", ", ".join(steps.done))


class _Steps:
    """The steps that are done, with their times, and the current one."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.current = "create"
        self._start = time.perf_counter()

    def next(self, name: str) -> None:
        now = time.perf_counter()
        self.done.append(f"{self.current} {1e3 * (now - self._start):.0f} ms")
        self._start, self.current = now, name


def _owner() -> dict[str, Any]:
    return {
        "dataset": "fiftyone-milvus doctor",
        "dataset_id": "0" * 24,
        "patches_field": None,
        "database": database_id(),
    }


def _try(collection: MilvusCollection, owner: dict[str, Any], steps: _Steps) -> None:
    _create(collection, owner)
    steps.next("write")
    vectors = np.random.default_rng(51).standard_normal((_ROWS, _DIMENSION), dtype=np.float32)
    ids = [f"{i:024x}" for i in range(_ROWS)]
    writer.upload(collection, Batch(ids, ids, vectors), replace=False)
    steps.next("load")
    collection.wait_until_loaded()
    steps.next("search")
    _search(collection, vectors, ids)
    steps.next("delete")
    collection.delete(ids[:1])
    if collection.count(strong=True) != _ROWS - 1:
        raise EngineError("a deleted row is still there; see the server's log")
    steps.next("drop")
    collection.drop()
    steps.next("drop")


def _create(collection: MilvusCollection, owner: dict[str, Any]) -> None:
    index_type = index_types.default_index_type(collection.connection.engine)
    params = index_types.build_params(index_type, None, _DIMENSION)
    collection.create(CollectionSpec(_DIMENSION, "COSINE", index_type, params, owner))


def _search(collection: MilvusCollection, vectors: np.ndarray, ids: list[str]) -> None:
    (found,) = Searcher(collection, "cosine").nearest(vectors[:1], _NEAREST)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(1 - unit @ unit[0])[:_NEAREST]
    if list(found.ids) != [ids[i] for i in nearest]:
        raise EngineError("a search returned the wrong rows; see the server's log")
