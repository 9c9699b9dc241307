"""Index types of the embedded engine, compared with numpy."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException

from fiftyone_milvus.connection import connection
from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.executor import vector_indexes
from fiftyone_milvus.embedded.executor.parts import LivePart
from fiftyone_milvus.embedded.executor.scan import normalize
from fiftyone_milvus.embedded.storage import automatic_index, codes, own_types, rabitq
from fiftyone_milvus.embedded.storage.automatic_index import AutomaticIndex, RabitqIndex
from fiftyone_milvus.measuring import memory
from tests.support.waiting import wait_until

from .test_codes import Rows, always, exact_scores
from .test_executor import Engine

COUNT, DIM, K = 3000, 64, 10


def data(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if kind == "clusters":  # of fewer rows than k
        found = rng.standard_normal((400, DIM))[rng.integers(0, 400, COUNT)]
        found = found + 0.4 * rng.standard_normal((COUNT, DIM))
    elif kind == "uniform":
        found = rng.uniform(-1, 1, (COUNT, DIM))
    else:  # digits: pixels, many of them always dark
        found = np.maximum(rng.standard_normal((10, DIM))[rng.integers(0, 10, COUNT)], 0)
        found = np.maximum(found + 0.3 * rng.standard_normal((COUNT, DIM)), 0) * (
            np.arange(DIM) % 8
        )
    return found.astype(np.float32)


def queries_of(vectors: np.ndarray, count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(2)
    near = vectors[rng.integers(0, len(vectors), count)]
    return (near + 0.1 * vectors.std() * rng.standard_normal(near.shape)).astype(np.float32)


def share(found: Any, scores: np.ndarray, k: int = K) -> float:
    """Recall of row numbers, where equal scores count as found."""
    best = -np.sort(-scores, axis=1)[:, k - 1 : k]
    mine = np.take_along_axis(scores, np.asarray(found), 1)
    return float((mine >= best - 1e-6 * np.abs(scores).max()).sum() / (len(scores) * k))


# -- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
@pytest.mark.parametrize("kind", ["clusters", "uniform", "digits"])
def test_more_lists_and_more_candidates_find_more(kind: str, metric: str) -> None:
    vectors = data(kind)
    queries = queries_of(vectors)
    queries = normalize(queries) if metric == "COSINE" else queries
    live = np.ones(COUNT, bool)
    live[::9] = False
    scores = np.where(live, exact_scores(vectors, queries, metric), -np.inf)
    part = LivePart(Rows(vectors), COUNT, live)
    index: Any = RabitqIndex.__new__(RabitqIndex)
    index.rabitq, index.refine = rabitq.build(vectors, metric, 32, always), True
    assert index.rabitq.index.nlist == 32

    def found(**params: float) -> float:
        hits = vector_indexes.search(index, part, "vector", queries, K, metric, params)
        assert live[hits.rows[hits.rows >= 0]].all()
        mine = np.take_along_axis(scores, np.maximum(hits.rows, 0), 1)
        mine = -mine if metric == "L2" else mine
        there = hits.rows >= 0
        # Exact scores, whatever the codes say
        assert np.allclose(hits.scores[there], mine[there], rtol=1e-4, atol=1e-4 * vectors.std())
        return share(
            hits.rows, np.where(np.isinf(scores), scores.min(where=live, initial=0), scores)
        )

    by_lists = [found(nprobe=n, refine_k=80) for n in (1, 8, 32)]
    assert by_lists == sorted(by_lists)
    assert by_lists[0] < by_lists[-1]
    assert by_lists[-1] >= 0.99
    by_candidates = [found(nprobe=32, refine_k=n) for n in (1, 3, 20)]
    assert by_candidates == sorted(by_candidates)
    assert by_candidates[0] < 0.95
    assert found(nprobe=32) >= 0.8  # by default; uniform data is hard with a bit for each of 64
    assert found(nprobe=32, rbq_query_bits=8) == found(nprobe=32, rbq_query_bits=0)
    # What is not refined is as good as the codes, with exact scores
    index.refine = False
    assert found(nprobe=32, refine_k=20) == by_candidates[0]


def test_a_file_is_of_one_segment_metric_and_number_of_lists(tmp_path: Path) -> None:
    vectors, file = data("uniform"), tmp_path / "indexes" / f"data.vector{rabitq.SUFFIX}"
    seqs = np.arange(COUNT, dtype=np.uint64)
    made = rabitq.build(vectors, "IP", 16, always)
    rabitq.save(made, file, seqs, "IP", 16)
    read = rabitq.load(file, seqs, "IP", 16)
    assert read is not None
    asked = vectors[:5], 20, 4, 8, None
    assert np.array_equal(read.search(*asked), made.search(*asked))
    assert read.rotation is made.rotation  # one for all segments
    assert rabitq.load(file, seqs, "IP", 17) is None
    assert rabitq.load(file, seqs, "L2", 16) is None
    assert rabitq.load(file, seqs + np.uint64(1), "IP", 16) is None
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert rabitq.load(file, seqs, "IP", 16) is None
    with pytest.raises(codes.StoppedError):
        rabitq.build(vectors, "IP", 16, lambda: False)


# -- collections ----------------------------------------------------------------------------------


def create(client: MilvusClient, index_type: str, metric: str = "L2", **params: Any) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", 5, is_primary=True)
    schema.add_field("vector", 101, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type=index_type, metric_type=metric, params=params)
    client.create_collection("c", schema=schema, index_params=index)


def insert(client: MilvusClient, vectors: np.ndarray, first: int = 0) -> None:
    client.upsert("c", [{"pk": first + i, "vector": v.tolist()} for i, v in enumerate(vectors)])


def settle(engine: Engine) -> None:
    engine.flush("c")
    engine.settle("c")
    described = functools.partial(engine.client.describe_index, "c", "vector")
    wait_until(lambda: not int(described().get("pending_index_rows", 0)))


def recall(client: MilvusClient, vectors: dict[int, np.ndarray], **params: Any) -> float:
    expression = params.pop("filter", "")
    keys = [n for n in vectors if not expression or n >= 1500]
    inside = np.stack([vectors[n] for n in keys])
    queries = queries_of(inside)
    found = client.search(
        "c", queries.tolist(), filter=expression, limit=K, search_params={"params": params}
    )
    place = {key: row for row, key in enumerate(keys)}
    rows = [[place[hit["pk"]] for hit in hits] for hits in found]
    return share(rows, exact_scores(inside, queries, "L2"))


def attached(engine: Engine) -> list[Any]:
    segments = engine.db.get_collection("c")._segments_snapshot()
    return [segment.indexes["vector"] for segment in segments if segment.num_rows]


def test_the_life_of_an_ivf_rabitq_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, vectors = tmp_path / "data.db", dict(enumerate(data("clusters")))
    engine = Engine(path, fast=True, database=Database)
    with pytest.raises(MilvusException, match=r"nlist is 0; expected an integer from 1 to 65536"):
        create(engine.client, "IVF_RABITQ", nlist=0)
    engine.client.drop_collection("c")
    create(engine.client, "ivf_rabitq", nlist=24, refine_type="SQ8")
    insert(engine.client, np.stack(list(vectors.values())))
    some = "pk >= 1500"
    assert recall(engine.client, vectors, nprobe=1) == 1  # growing rows are compared
    settle(engine)

    def check(engine: Engine) -> None:
        described = engine.client.describe_index("c", "vector")
        assert described["index_type"] == "IVF_RABITQ"
        assert described["params"] == {"nlist": 24, "refine": True, "refine_type": "SQ8"}
        (index, *_) = attached(engine)
        assert isinstance(index, RabitqIndex)
        assert index.rabitq.index.nlist == 24
        assert recall(engine.client, vectors, nprobe=1) < 0.98
        assert recall(engine.client, vectors, nprobe=24, refine_k=40) >= 0.99
        assert recall(engine.client, vectors, nprobe=1, filter=some) == 1
        assert recall(engine.client, vectors, nprobe=1, exact=True) == 1
        assert engine.servicer.delegated == {}

    check(engine)
    engine.client.delete("c", ids=list(range(200)))
    for number in range(200):
        del vectors[number]
    changed = data("uniform")[:100]
    insert(engine.client, changed, 1000)
    vectors.update({1000 + i: v for i, v in enumerate(changed)})
    check(engine)
    engine.close()

    # Opened again, codes are read, not made
    with monkeypatch.context() as patched:
        patched.setattr(rabitq, "build", lambda *args: pytest.fail("made again"))
        engine = Engine(path, fast=True, database=Database)
        # Described without being opened
        assert engine.client.describe_index("c", "vector")["index_type"] == "IVF_RABITQ"
        engine.client.load_collection("c")
        check(engine)
        engine.close()

    # Plain Milvus Lite opens it, and what it writes keeps the index
    lite = Engine(path, fast=False)
    lite.client.load_collection("c")
    assert recall(lite.client, vectors, nprobe=24) == 1
    insert(lite.client, changed, 5000)
    vectors.update({5000 + i: v for i, v in enumerate(changed)})
    lite.flush("c")
    lite.settle("c")
    lite.close()
    engine = Engine(path, fast=True, database=Database)
    engine.client.load_collection("c")
    settle(engine)
    check(engine)

    # Another number of lists needs other codes, and leaves none of the old
    engine.client.release_collection("c")
    engine.client.drop_index("c", "vector")
    index = engine.client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="L2")
    engine.client.create_index("c", index)
    engine.client.load_collection("c")
    insert(engine.client, changed[:1], 9000)
    settle(engine)
    assert not list(path.rglob(f"*{rabitq.SUFFIX}"))
    engine.close()


@pytest.mark.parametrize("index_type", automatic_index.COPIED)
def test_large_collections_have_codes_and_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index_type: str
) -> None:
    monkeypatch.setattr(automatic_index, "COPIED_BYTES", 4 * DIM * COUNT * 3 // 4)
    monkeypatch.setattr(codes, "MIN_ROWS", 1000)
    monkeypatch.setattr(codes, "MIN_BYTES", 0)
    vectors = data("clusters")
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    create(engine.client, index_type)
    insert(engine.client, vectors[: COUNT // 2])
    settle(engine)
    (small,) = attached(engine)
    assert not isinstance(small, AutomaticIndex)
    assert recall(engine.client, dict(enumerate(vectors[: COUNT // 2])), ef=1, exact=True) == 1
    insert(engine.client, vectors[COUNT // 2 :], COUNT // 2)
    settle(engine)
    large = attached(engine)
    assert all(isinstance(index, AutomaticIndex) and index.codes is not None for index in large)
    least = {"HNSW": "ef", "HNSW_SQ": "ef"}.get(index_type, "nprobe")
    assert recall(engine.client, dict(enumerate(vectors)), **{least: 1}) >= 0.99
    assert engine.client.describe_index("c", "vector")["index_type"] == index_type
    engine.close()


def test_where_copies_end_is_known_to_estimates() -> None:
    assert memory.COPIED_BYTES == automatic_index.COPIED_BYTES
    assert memory._COPIED == automatic_index.COPIED
    assert connection._OUR_INDEX_TYPES == own_types.NAMES


def test_a_kept_type_of_another_program_is_shown_as_it_is() -> None:
    kept, params = own_types.to_kept("IVF_RABITQ", {"nlist": 4})
    assert kept in connection._LITE_INDEX_TYPES
    assert own_types.from_kept(kept, params) == ("IVF_RABITQ", {"nlist": 4, "refine": True})
    assert own_types.from_kept("HNSW", params) == ("HNSW", params)
    spec = SimpleNamespace(index_type="IVF_FLAT", build_params={"fiftyone_index_type": "NEW"})
    assert own_types.of(spec) == "IVF_FLAT"
