"""A collection is made, filled, searched, emptied and dropped."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress

import numpy as np

from fiftyone_milvus import parameters, writing
from fiftyone_milvus.checking import Batch
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.doctor.verdict import Verdict
from fiftyone_milvus.errors import EngineError, FiftyOneMilvusError, PermissionDeniedError
from fiftyone_milvus.identity import database_id
from fiftyone_milvus.searching import Searcher

_ROWS, _DIMENSION, _NEAREST = 100, 16, 10
_PRIVILEGES = (
    "CreateCollection, DropCollection, DescribeCollection, ShowCollections, CreateIndex, "
    "IndexDetail, Load, GetLoadState, Insert, Upsert, Delete, Query, Search, Flush"
)


def run(connection: Connection) -> Verdict:
    """Tries what an index needs of a Milvus; names the step that fails.

    Leaves nothing; a collection that is left by a crash counts as orphaned.
    """
    name = f"fiftyone_milvus_doctor_{uuid.uuid4().hex[:8]}"
    collection = MilvusCollection(connection, name, timeout=60)
    steps: list[str] = []
    start = time.perf_counter()
    step = "create"

    def done(next_step: str) -> None:
        nonlocal start, step
        now = time.perf_counter()
        steps.append(f"{step} {1e3 * (now - start):.0f} ms")
        start, step = now, next_step

    try:
        _create(collection)
        done("write")
        vectors = np.random.default_rng(51).standard_normal((_ROWS, _DIMENSION), dtype=np.float32)
        ids = [f"{i:024x}" for i in range(_ROWS)]
        writing.upload(collection, Batch(ids, ids, vectors), replace=False)
        done("load")
        collection.wait_until_loaded()
        done("search")
        _search(collection, vectors, ids)
        done("delete")
        collection.delete(ids[:1])
        if collection.count(strong=True) != _ROWS - 1:
            raise EngineError("a deleted row is still there; see the server's log")
        done("drop")
        collection.drop()
        done("")
    except PermissionDeniedError as error:
        remedy = f"grant the user's role {_PRIVILEGES}"
        return Verdict("round trip", "problem", f"can't {step}: {error}", remedy)
    except FiftyOneMilvusError as error:
        return Verdict("round trip", "problem", f"can't {step}: {error}")
    finally:
        if step:
            with suppress(FiftyOneMilvusError):
                collection.drop()
    return Verdict("round trip", "ok", ", ".join(steps))


def _create(collection: MilvusCollection) -> None:
    index_type = parameters.default_index_type(collection.connection.engine)
    owner = {
        "dataset": "a check of fiftyone-milvus doctor",
        "dataset_id": "0" * 24,
        "brain_key": None,
        "patches_field": None,
        "database": database_id(),
    }
    collection.create(
        _DIMENSION,
        "COSINE",
        index_type,
        parameters.build_params(index_type, None, _DIMENSION),
        owner,
    )


def _search(collection: MilvusCollection, vectors: np.ndarray, ids: list[str]) -> None:
    (found,) = Searcher(collection, "cosine").nearest(vectors[:1], _NEAREST)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(1 - unit @ unit[0])[:_NEAREST]
    if list(found.ids) != [ids[i] for i in nearest]:
        raise EngineError("the nearest rows are others than they should be; see the server's log")
