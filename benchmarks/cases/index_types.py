"""What each index type costs and finds on each engine: the evidence for the defaults."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.cases.building import create
from benchmarks.cases.sizes import anonymous
from benchmarks.report import Table, ms, s
from benchmarks.timing import take_turns, timed
from benchmarks.vectors import Array, digits, near, nearest, recall
from benchmarks.world import Engine, World, finish_lite, wait_indexed
from fiftyone_milvus.schema.index_types import default_index_type, search_params

K = 10
QUERIES = 200
TYPES = {
    "embedded": ("FLAT", "AUTOINDEX", "IVF_RABITQ", "IVF_FLAT", "IVF_SQ8", "HNSW"),
    "server": ("FLAT", "IVF_FLAT", "HNSW", "AUTOINDEX"),
}


def run(world: World) -> list[Table]:
    small = min(10_000, world.rows)
    sets = {
        f"clusters {small:,} x {world.dim}": world.vectors[:small],
        "digits": digits()[0],
        f"clusters {world.rows:,} x {world.dim}": world.vectors,
    }
    tables = []
    for engine in world.engines:
        rows, raw = [], []
        default = default_index_type(engine.ours.connection.engine)
        for title, vectors in sets.items():
            if title == "digits":
                title = f"digits {len(vectors):,} x {vectors.shape[1]}"
            for kind in TYPES[engine.name]:
                found = _try(engine, kind, vectors)
                name = f"**{kind}**" if kind == default else kind
                rows.append(
                    (title, name, s(found["upload"]), s(found["ready"]),
                     ms(found["one"]), ms(found["many"]), f"{found['recall']:.3f}",
                     f"{found['memory'] / 1e6:,.0f}" if "memory" in found else "")
                )  # fmt: skip
                raw.append({"engine": engine.name, "vectors": title, "index": kind, **found})
        columns = ("vectors", "index", "upload s", "until ready s", "one query ms",
                   "200 queries ms", "recall@10", "memory MB")  # fmt: skip
        tables.append(Table(f"index_types-{engine.name}", columns, rows, (), raw))
    return tables


def _try(engine: Engine, kind: str, vectors: Array) -> dict[str, float]:
    client, name = engine.client, f"kind_{kind.lower()}"
    ids = [f"{i:024x}" for i in range(len(vectors))]
    before = _memory(engine)
    start = time.perf_counter()
    create(client, name, vectors.shape[1], kind)
    size = 1 << 20
    step = max(1, size // vectors.shape[1])
    for first in range(0, len(vectors), step):
        part = range(first, min(first + step, len(vectors)))
        client.insert(
            name, [{"pk": ids[i], "vector": vectors[i], "sample_id": ids[i]} for i in part]
        )
    client.flush(name)
    upload = time.perf_counter() - start
    if engine.name == "server":
        wait_indexed(client, name, len(vectors))
    else:
        finish_lite(client, name)
    queries = near(vectors, QUERIES)
    _search(client, name, kind, queries[:1])
    ready = time.perf_counter() - start

    one = take_turns({"": timed(lambda: _search(client, name, kind, queries[:1]))}, 30)[""]
    many = take_turns({"": timed(lambda: _search(client, name, kind, queries))}, 3)[""]
    found = [[int(i, 16) for i in hits.ids] for hits in _search(client, name, kind, queries)]
    took = {} if before is None else {"memory": (_memory(engine) or 0) - before}
    client.drop_collection(name)
    share = recall(found, nearest(vectors, queries, K))
    return {"upload": upload, "ready": ready, "one": one.min, "many": many.min, "recall": share,
            **took}  # fmt: skip


def _memory(engine: Engine) -> int | None:
    """The embedded service's own memory, which it can't give back."""
    from fiftyone_milvus import embedded

    if engine.name == "server":
        return None
    state = embedded.status(Path(engine.uri))
    assert state is not None
    return anonymous(int(state.pid))


def _search(client: Any, name: str, kind: str, queries: Array) -> Any:
    params = {"metric_type": "COSINE", "params": search_params(kind, None, K)}
    return client.search(
        name,
        data=list(queries),
        anns_field="vector",
        limit=K,
        search_params=params,
        output_fields=["pk"],
    )
