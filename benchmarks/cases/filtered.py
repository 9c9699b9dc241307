"""How right a server's filtered search is, by the share of rows that the filter leaves.

The evidence for :mod:`fiftyone_milvus.search.exactness`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.vectors import Array, near, nearest, recall
from benchmarks.world import World, new_index

K = 25
QUERIES = 20
SHARES = (0.01, 0.03, 0.05, 0.065, 0.07, 0.08, 0.1, 0.3, 0.5)
UNSEALED = (2_000, 4_000, 6_000, 10_000)
UNSEALED_SHARES = (0.01, 0.05, 0.2, 0.5, 1.0)


def run(world: World) -> list[Table]:
    engine = next((e for e in world.engines if e.name == "server"), None)
    if engine is None:
        return []
    queries = near(world.vectors, QUERIES, seed=57)
    ids = np.array(world.ids)
    rows = []
    found = {}
    name = engine.ours.config.collection_name
    for share in SHARES:
        mask = _mask(world.rows, share)
        found[share] = _recall(engine.client, name, world.vectors, ids, queries, mask)
    rows.append(("100 % sealed, HNSW", *(f"{found[s]:.3f}" for s in SHARES)))
    sealed = Table("filtered", ("rows", *(f"{s:.1%}" for s in SHARES)), rows, (), found)

    rows, raw = [], {}
    for count in UNSEALED:
        index = new_index(world.dataset, f"unsealed_{count}", engine.kwargs())
        parts = range(0, count, 1_000)  # each too few for the upload to end with a flush
        for start in parts:
            part = slice(start, start + 1_000)
            index.add_to_index(world.vectors[part], world.ids[part])
        index._kneighbors(queries[0], k=K)
        time.sleep(2)
        cells = []
        for share in UNSEALED_SHARES:
            mask = _mask(count, share)
            name = index.config.collection_name
            value = _recall(engine.client, name, world.vectors[:count], ids[:count], queries, mask)
            cells.append(value)
        raw[count] = dict(zip(UNSEALED_SHARES, cells, strict=True))
        rows.append((f"{count:,} unsealed", *(f"{value:.3f}" for value in cells)))
        index.cleanup()
        world.dataset.delete_brain_run(f"unsealed_{count}")
    columns = ("rows", *(f"{s:.0%}" for s in UNSEALED_SHARES))
    return [sealed, Table("filtered-unsealed", columns, rows, (), raw)]


def _mask(rows: int, share: float) -> Array:
    return np.random.default_rng(58).permutation(rows) < share * rows


def _recall(
    client: Any, name: str, vectors: Array, ids: Array, queries: Array, mask: Array
) -> float:
    from fiftyone_milvus.collection.filters import ids_in

    row_of = {_id: i for i, _id in enumerate(ids.tolist())}
    k = min(K, int(mask.sum()))
    answers = client.search(
        name,
        data=list(queries),
        anns_field="vector",
        limit=k,
        filter="" if mask.all() else ids_in("pk", ids[mask].tolist()),
        search_params={"metric_type": "COSINE", "params": {"ef": 256}},
        output_fields=["pk"],
        consistency_level="Strong",
    )
    found = [[row_of[i] for i in answer.ids] for answer in answers]
    return recall(found, nearest(vectors, queries, k, mask))
