"""Recall of the defaults, next to a brute force, on made vectors and on real ones."""

from __future__ import annotations

from benchmarks.report import Goal, Table
from benchmarks.vectors import Array, digits, near, nearest, patches, recall
from benchmarks.world import Engine, World, make_dataset, new_index, wait_indexed

K = 10
QUERIES = 200


def run(world: World) -> list[Table]:
    sets = {
        f"clusters, {world.rows:,} x {world.dim}": world.vectors,
        "digits": digits()[0],
        "photo patches": patches()[0],
    }
    rows, goals = [], []
    for title, vectors in sets.items():
        if vectors is not world.vectors:
            title = f"{title}, {len(vectors):,} x {vectors.shape[1]}"
        queries = near(vectors, QUERIES)
        truth = nearest(vectors, queries, K)
        found = {e.name: recall(_ask(e, vectors, queries), truth) for e in world.engines}
        rows.append((title, *(f"{value:.4f}" for value in found.values())))
        goals += [
            Goal(f"recall@10, {title}, {name}", ">= 0.99", value, value, unit="")
            for name, value in found.items()
        ]
    return [Table("recall", ("vectors", *(e.name for e in world.engines)), rows, goals)]


def _ask(engine: Engine, vectors: Array, queries: Array) -> list[list[int]]:
    world = engine.world
    if vectors is world.vectors:
        found, _ = engine.ours._kneighbors(queries, k=K)
        return [[world.row_of[i] for i in ids] for ids in found]
    dataset = make_dataset(1)
    index = new_index(dataset, "recall", engine.kwargs())
    index.add_to_index(vectors, [str(i) for i in range(len(vectors))])
    if engine.name == "server":
        wait_indexed(engine.client, index.config.collection_name, len(vectors))
    found, _ = index._kneighbors(queries, k=K)
    index.cleanup()
    return [[int(i) for i in ids] for ids in found]
