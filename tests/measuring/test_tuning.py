"""The cheapest search parameters that find enough, chosen and verified by measurement."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import fiftyone.brain as fob
import fiftyone.core.odm as foo
import numpy as np
import pytest

from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.measuring import recall, tuning
from fiftyone_milvus.measuring.memory import estimate
from fiftyone_milvus.schema import index_types
from tests.support import oracle
from tests.support.indexes import KEY, Indexed, image_dataset, index_images, one_line, vectors

COUNT, DIM, K = 2000, 24, 10
OTHERS = 500
"""Vectors that are not in the indexes."""
INDEXES: dict[str, dict[str, Any]] = {
    "clusters": {"index_type": "HNSW", "index_params": {"M": 5, "efConstruction": 20}},
    "uniform": {"index_type": "IVF_SQ8", "index_params": {"nlist": 32}},
}


def data(kind: str, count: int) -> np.ndarray:
    if kind == "clusters":
        return vectors(count, DIM, clusters=20)
    return np.random.default_rng(5).uniform(-1, 1, size=(count, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def indexed(engine: Any) -> Iterator[Callable[[str], Indexed]]:
    """Makes each index once."""
    made: dict[str, Indexed] = {}

    def get(kind: str) -> Indexed:
        if kind not in made:
            dataset = image_dataset(COUNT)
            values = data(kind, COUNT + OTHERS)
            index = fob.compute_similarity(
                dataset,
                embeddings=values[:COUNT],
                brain_key=KEY,
                backend="milvus",
                metric="euclidean",
                **INDEXES[kind],
                **engine.kwargs,
            )
            ids = dataset.values("id")
            table = dict(zip(ids, values[:COUNT], strict=True))
            made[kind] = Indexed(dataset, index, "euclidean", table, dict(engine.kwargs))
        return made[kind]

    yield get
    for one in made.values():
        one.drop()


def stored(indexed: Indexed) -> Any:
    """Returns the search parameters that MongoDB has of the run."""
    query = {"_dataset_id": indexed.dataset._doc.id, "key": KEY}
    (run,) = foo.get_db_conn().runs.find(query)
    config = MilvusSimilarityConfig.from_dict(run["config"])
    assert config.collection_name == indexed.index.config.collection_name
    return config.search_params


def found_of_others(indexed: Indexed, index: Any, queries: np.ndarray) -> float:
    """Returns the recall for vectors that are not in the index."""
    ids, _ = index._kneighbors(queries, k=K)
    true = oracle.distances(indexed.metric, queries, indexed.matrix())
    tables = (dict(zip(indexed.ids, row.tolist(), strict=True)) for row in true)
    return float(
        np.mean([oracle.recall(i, table, K) for i, table in zip(ids, tables, strict=True)])
    )


@pytest.mark.parametrize(("kind", "name"), [("clusters", "ef"), ("uniform", "nprobe")])
def test_a_target_is_reached(indexed, kind, name, monkeypatch):
    one = indexed(kind)
    target = 0.95
    found = one.index.tune(recall=target, k=K, queries=80)
    print(found)
    assert found.reached
    assert found.stored
    assert (found.target, found.k, found.queries, found.vectors) == (target, K, 80, COUNT)
    assert found.index_type == INDEXES[kind]["index_type"]
    assert set(found.params) == {name, "k"}
    value = found.params[name]
    (verified,) = [trial for trial in found.trials if trial.held_out]
    best = [trial for trial in found.trials if trial.params[name] == value][-1]
    assert best is verified or verified.bound < target
    assert (best.recall, best.bound) == (found.recall, found.bound)
    assert (best.p50, best.p95) == (found.p50, found.p95)
    assert target <= found.bound < found.recall
    assert best.queries in (80, 320)
    assert 0 < found.p50 <= found.p95
    # The next cheaper one was not enough, for one of the two sets of queries
    cheaper = max(trial.params[name] for trial in found.trials if trial.params[name] < value)
    tried = [trial for trial in found.trials if trial.params[name] == cheaper]
    assert any(trial.bound < target or trial.exact > tuning._MAX_EXACT for trial in tried)
    grid = tuning.candidates(found.index_type, K, COUNT, one.index._collection.built().params)
    assert grid.index(value) == grid.index(cheaper) + 1

    # Every process that loads the run uses it, as it is for k, and in proportion for many
    assert stored(one) == {name: value, "k": K}
    one.dataset.clear_cache()
    index = one.dataset.load_brain_results(KEY, **one.kwargs)
    asked = []
    search = MilvusCollection.search

    def spy(self, queries, limit, *, params, **kwargs):
        asked.append((limit, params))
        return search(self, queries, limit, params=params, **kwargs)

    monkeypatch.setattr(MilvusCollection, "search", spy)
    queries = data(kind, COUNT + OTHERS)[COUNT:]
    assert found_of_others(one, index, queries) >= target - 0.02
    index._kneighbors(queries[:1], k=1000)
    assert asked[0] == (K, {name: value})
    assert asked[-1] == (1000, index_types.search_params(found.index_type, found.params, 1000))

    assert f"{name}={value} reaches it" in str(found)
    assert f"at least {found.bound:.4f} with 95 % confidence" in str(found)
    assert f"recall@{K}" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["params"] == {name: value, "k": K}


def test_a_target_that_can_not_be_reached(indexed):
    one = indexed("uniform")
    before = stored(one)
    found = one.index.tune(recall=1.0, k=K, queries=80)
    assert not found.reached
    assert (found.params, found.stored) == ({}, False)
    assert found.trials[-1].params == {"nprobe": 32}
    assert 0.8 < found.recall < 1.0
    assert "compresses vectors" in one_line(ValueError(found.note))
    assert found.note in str(found)
    assert stored(one) == one.index.config.search_params == before


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_only_measured(indexed):
    one = indexed("uniform")
    before = stored(one)
    found = one.index.tune(recall=0.5, k=5, queries=50, store=False)
    assert (found.reached, found.stored) == (True, False)
    assert found.params["k"] == 5
    assert stored(one) == one.index.config.search_params == before


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_interrupted(indexed, monkeypatch):
    one = indexed("uniform")
    before = stored(one)
    measure, calls = recall.measure, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args, **kwargs)

    monkeypatch.setattr(recall, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.index.tune(recall=0.9, queries=50)
    assert stored(one) == one.index.config.search_params == before


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_what_can_not_be_stored_is_not_used(indexed, monkeypatch):
    one = indexed("uniform")
    before = one.index.config.search_params

    def fail(*args):
        raise ConnectionError("no database")

    monkeypatch.setattr(type(one.index.backend), "update_run_config", fail)
    with pytest.raises(ConnectionError):
        one.index.tune(recall=0.5, k=5, queries=50)
    assert one.index.config.search_params == before


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_interrupted_while_it_is_stored(indexed, monkeypatch):
    one = indexed("uniform")
    before = one.index.config.search_params

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(one.index.backend), "list_runs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.index._use({"nprobe": 1, "k": K})
    assert one.index.config.search_params == before


def test_nothing_to_tune(engine, dropped):
    # All are compared on the embedded engine, and on a server, which builds nothing for so few
    one = index_images(engine, 100, "cosine", brain_key=None)
    dropped.append(one)
    found = one.index.tune()
    assert (found.reached, found.params, found.stored, found.recall) == (True, {}, False, 1.0)
    assert found.trials == ()
    assert "nothing to tune" in one_line(ValueError(str(found).splitlines()[-1]))
    assert one.index.config.search_params is None


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_an_index_without_a_brain_key(engine, dropped):
    one = index_images(
        engine, 500, "cosine", brain_key=None, index_type="HNSW", search_params={"ef": 400}
    )
    dropped.append(one)
    found = one.index.tune(recall=0.5, k=5, queries=40)
    assert (found.reached, found.stored) == (True, False)
    assert one.index.config.search_params == found.params == {"ef": found.params["ef"], "k": 5}


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"recall": 0},
        {"recall": 1.01},
        {"recall": "much"},
        {"recall": True},
        {"k": 0},
        {"k": 4096},
        {"queries": 0},
        {"seed": -1},
        {"store": "yes"},
    ],
)
def test_what_can_not_be_asked_for(cosine_images, kwargs):
    with pytest.raises(InvalidInputError, match=f"{next(iter(kwargs))} ") as error:
        cosine_images.index.tune(**kwargs)
    one_line(error.value)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_an_index_that_is_never_built(engine, dropped, monkeypatch):
    # Milvus Lite takes a SCANN index, and never builds it: so may an engine that we don't know
    monkeypatch.setattr("fiftyone_milvus.schema.support.check_offered", lambda *_: None)
    one = index_images(engine, 50, "cosine", index_type="SCANN")
    dropped.append(one)
    monkeypatch.setattr("fiftyone_milvus.collection.index_build._STALLED", 0.5)
    with pytest.raises(EngineError, match="built for 0 of 50 rows") as error:
        one.index.tune()
    one_line(error.value)


# -- the search for them ------------------------------------------------------------------------


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Finds the least of 1, 2, ..., 9 where the recalls of both sets of queries are made up."""

    def find(first: Callable[[int], float], second: Callable[[int], float], exact: float = 0.0):
        sets = [tuning.Queries(name, SimpleNamespace(k=K)) for name in ("first", "second")]
        recalls = dict(zip(("first", "second"), (first, second), strict=True))

        def attempt(make, params, queries, target, *, held_out=False, progress=None):
            found = recalls[queries.vectors](params["ef"])
            return tuning.Trial(params, found, found, 100, 0.1, 0.1, held_out, exact)

        monkeypatch.setattr(tuning, "attempt", attempt)
        return tuning.find(lambda *_: None, "ef", range(1, 10), tuple(sets), 0.9, {})

    return find


def test_the_second_set_decides(tried):
    # The first misses everywhere, if barely, which would be a wrong thing to say
    found = tried(lambda ef: 0.89, lambda ef: 0.91)
    assert found.reached
    assert (found.best.params, found.best.recall, found.best.held_out) == ({"ef": 9}, 0.91, True)
    found = tried(lambda ef: 0.91, lambda ef: 0.89)
    assert not found.reached
    assert found.best.params == {"ef": 9}


def test_what_chooses_is_not_held_out(tried):
    found = tried(lambda ef: ef / 4, lambda ef: ef / 6)
    assert found.reached
    # 4 was chosen by the first set, and missed; the rest was asked of the set that chose 6 of it
    assert [(t.params["ef"], t.held_out) for t in found.trials[-4:]] == [
        (4, True),
        (5, False),
        (7, False),
        (6, False),
    ]
    assert found.best is found.trials[-1]


def test_the_cheapest_is_found_after_a_miss_too(tried):
    found = tried(lambda ef: float(ef >= 2), lambda ef: float(ef >= 6))
    assert [t.params["ef"] for t in found.trials] == [1, 5, 3, 2, 2, 3, 5, 9, 7, 6]
    assert found.best is found.trials[-1]
    assert found.best.recall == 1.0


def test_what_is_said_of_what_is_not_reached(tried):
    found = tried(lambda ef: 1.0, lambda ef: 1.0, exact=0.25)
    assert not found.reached
    said = one_line(ValueError(tuning.advice("HNSW", found.best, 0.9)))
    assert "Even with ef=9, the index returns too few results for 25.0% of the searches" in said
    assert "larger 'M'" in said
    assert "compresses" not in tuning.advice("IVF_SQ8", found.best, 0.9)
    found = tried(lambda ef: 0.5, lambda ef: 0.5)
    said = one_line(ValueError(tuning.advice("IVF_SQ8", found.best, 0.9)))
    assert "Not even ef=9 reaches it, 0.5000 is the most; IVF_SQ8 compresses" in said
    assert "a larger 'refine_k'" in one_line(
        ValueError(tuning.advice("IVF_RABITQ", found.best, 0.9))
    )


# -- the bound ----------------------------------------------------------------------------------


def test_what_is_only_estimated_is_asked_of_more(monkeypatch):
    rng = np.random.default_rng(0)
    sets = {name: rng.binomial(K, 0.92, size) / K for name, size in (("few", 80), ("more", 240))}
    asked = []

    def measure(searcher, queries, truth, *, progress=None):
        asked.append(queries)
        return sets[queries], np.full(len(sets[queries]), 0.1)

    monkeypatch.setattr(recall, "measure", measure)
    queries = tuning.Queries("few", None, lambda: tuning.Queries("more", None))
    for target, expected in ((0.99, ["few"]), (0.9, ["few", "more"]), (0.5, ["few"])):
        asked.clear()
        trial = tuning.attempt(lambda *_: None, {}, queries, target)
        assert asked == expected
        together = np.concatenate([sets[name] for name in expected])
        assert trial.queries == len(together)
        assert trial.recall == pytest.approx(together.mean())
        assert trial.bound == tuning.lower_bound(together) < trial.recall
    assert trial.reaches(trial.bound)
    assert not trial.reaches(trial.recall)


def test_what_every_query_finds():
    bound = tuning.lower_bound(np.ones(1000))
    assert 0.996 < bound < 0.998, "of 1,000 queries that find all, 3 in 1,000 others may find none"
    trial = tuning.Trial({}, 1.0, bound, 1000, 0.1, 0.1)
    assert trial.reaches(1.0), "no number of queries proves it"
    assert trial.reaches(0.996)
    assert not trial.reaches(0.999)
    few = tuning.lower_bound(np.ones(20))
    assert 0.8 < few < 0.9
    assert not tuning.Trial({}, 1.0, few, 20, 0.1, 0.1).reaches(0.95)


def test_no_larger_value_is_tried_where_everything_is_found(tried, monkeypatch):
    monkeypatch.setattr(tuning.Trial, "reaches", lambda self, target: False)
    found = tried(lambda ef: float(ef >= 3), lambda ef: float(ef >= 3))
    assert not found.reached
    assert found.best.params == {"ef": 3}
    assert "prove" in tuning.advice("HNSW", found.best, 0.9)


@pytest.mark.parametrize("confidence", [0.95, 0.975])
@pytest.mark.parametrize("freedom", [10, 20, 80, 1000])
def test_quantiles(confidence, freedom):
    """Of 400,000 draws of Student's t."""
    drawn = np.random.default_rng(51).standard_t(freedom, 400_000)
    quantile = recall._student(confidence, freedom)
    assert np.mean(drawn <= quantile) == pytest.approx(confidence, abs=0.0015)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_what_80_queries_find_is_not_what_others_find(indexed):
    """A recall that 80 queries reach by chance is stored by nobody any more."""
    one = indexed("uniform")
    assert one.index._collection.wait_until_built()
    queries = np.random.default_rng(9).uniform(-1, 1, size=(1000, DIM)).astype(np.float32)
    searcher = one.index._with({"nprobe": 12}, tuning.Trace())
    found = [n.ids for n in searcher.nearest(queries, K)]
    true = oracle.distances(one.metric, queries, one.matrix())
    tables = (dict(zip(one.ids, row.tolist(), strict=True)) for row in true)
    recalls = np.array([oracle.recall(i, t, K) for i, t in zip(found, tables, strict=True)])
    target = recalls.mean() + 0.004  # which this value does not reach
    rng = np.random.default_rng(51)
    draws = [recalls[rng.permutation(1000)[:320]] for _ in range(1000)]
    by_mean = np.mean([draw[:80].mean() >= target for draw in draws])
    by_bound = np.mean(
        [max(map(tuning.lower_bound, (draw[:80], draw))) >= target for draw in draws]
    )
    assert by_mean > 0.25
    assert by_bound < 0.05


@pytest.mark.parametrize("count", [20, 50, 500])
@pytest.mark.parametrize(
    ("mean", "draw"),
    [
        (0.95, lambda rng, size: rng.binomial(K, 0.95, size) / K),
        (0.99, lambda rng, size: rng.binomial(K, 0.99, size) / K),
        (0.99, lambda rng, size: rng.random(size) < 0.99),
        (0.999, lambda rng, size: rng.random(size) < 0.999),
        (0.9, lambda rng, size: np.where(rng.random(size) < 0.2, 0.5, 1.0)),
    ],
)
def test_the_bound_holds(count, mean, draw):
    """Before or after more queries, 95 times in 100; 94 times if a query finds all or nothing."""
    rng = np.random.default_rng(51)
    wrong = 0
    for recalls in draw(rng, (2000, (1 + tuning.MORE) * count)):
        wrong += max(map(tuning.lower_bound, (recalls[:count], recalls))) > mean
    assert wrong / 2000 <= 0.065


# -- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "limit", "expected"),
    [
        (None, 10, 128),
        (None, 100, 200),
        ({"ef": 40}, 10, 40),
        ({"ef": 40}, 100, 100),
        ({"ef": 40, "k": 10}, 1, 40),
        ({"ef": 40, "k": 10}, 10, 40),
        ({"ef": 40, "k": 10}, 25, 100),
        ({"ef": 40, "k": 10}, 60, 128),
        ({"ef": 40, "k": 10}, 100, 200),
        ({"ef": 500, "k": 10}, 100, 500),
        ({"ef": 500, "k": 10}, 400, 800),
    ],
)
def test_what_is_asked_for_more_results_than_was_tuned_for(params, limit, expected):
    assert index_types.search_params("HNSW", params, limit) == {"ef": expected}


def test_k_is_checked():
    config = MilvusSimilarityConfig(index_type="HNSW", search_params={"ef": 40, "k": 10})
    assert config.search_params == {"ef": 40, "k": 10}
    for k in (0, 1.5, "10", True):
        with pytest.raises(InvalidInputError, match="search_params\\['k'\\]"):
            MilvusSimilarityConfig(search_params={"k": k})


# -- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index_type", "params", "per_vector"),
    [
        ("FLAT", {}, 512),
        ("HNSW", {"M": "16"}, 512 + 128),
        ("HNSW_SQ", {"M": 16}, 128 + 128),
        ("IVF_FLAT", {"nlist": 1000}, 512 + 8 + 5.12),
        ("IVF_SQ8", {"nlist": 1000}, 128 + 8 + 5.12),
        ("IVF_PQ", {"nlist": 1000, "m": 16, "nbits": 8}, 16 + 8 + 5.12),
        ("IVF_RABITQ", {"nlist": 1000}, 16 + 8 + 8 + 5.12),
        ("IVF_RABITQ", {"nlist": 1000, "refine": True}, 512 + 16 + 8 + 8 + 5.12),
        ("SCANN", {"nlist": 1000}, 512 + 32 + 8 + 5.12),
        ("SCANN", {"nlist": 1000, "with_raw_data": "false"}, 32 + 8 + 5.12),
        ("HNSW_SQ", {"M": 16, "sq_type": "SQ4U"}, 64 + 128),
        ("HNSW_SQ", {"M": 16, "sq_type": "SQ6"}, 96 + 128),
        ("HNSW_SQ", {"M": 16, "sq_type": "FP16"}, 256 + 128),
        ("HNSW_SQ", {"M": 16, "refine": "true", "refine_type": "BF16"}, 128 + 256 + 128),
        ("HNSW_SQ", {"M": 16, "refine": False, "refine_type": "BF16"}, 128 + 128),
        ("HNSW_PQ", {"M": 16, "m": 64, "nbits": 8, "refine": True}, 64 + 512 + 128),
    ],
)
def test_estimated_sizes(index_type, params, per_vector):
    assert estimate(index_type, 100_000, 128, params) == pytest.approx(100_000 * per_vector)


MEASURED = {
    ("embedded", "AUTOINDEX"): 200,
    ("embedded", "HNSW"): 200,
    ("server", "IVF_SQ8"): 489,
    ("server", "HNSW"): 2_290,
}
"""MB per million x 512, of ``docs/sizing.md``. A server's rows without an index take more."""


@pytest.mark.parametrize(("where", "index_type"), MEASURED)
def test_what_is_estimated_is_what_was_measured(where, index_type):
    params = index_types.build_params(index_type, None, 512)
    size = estimate(index_type, 1_000_000, 512, params, embedded=where == "embedded")
    assert size / 1e6 == pytest.approx(MEASURED[where, index_type], rel=0.08)


@pytest.mark.parametrize("index_type", ["DISKANN", "AUTOINDEX", "GPU_CAGRA"])
def test_sizes_that_nothing_tells(index_type):
    assert estimate(index_type, 100_000, 128, {}) is None


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_ivf_rabitq_of_the_embedded_engine(engine):
    one = index_images(
        engine,
        1200,
        "cosine",
        index_type="IVF_RABITQ",
        index_params={"nlist": 16},
        search_params={"refine_k": 30},
    )
    try:
        found = one.index.tune(recall=0.9, k=5, queries=60)
        assert (found.index_type, found.reached) == ("IVF_RABITQ", True)
        assert set(found.params) == {"nprobe", "refine_k", "k"}
        assert 1 <= found.params["nprobe"] <= 16
        assert stored(one) == found.params
        evaluated = one.index.evaluate(queries=60, k=5)
        assert evaluated.index_type == "IVF_RABITQ"
        assert 0.85 < evaluated.recall <= 1
        (index,) = one.index.collection.indexes
        assert index.params["index_type"] == "IVF_RABITQ"
        # A view is searched exactly
        view = one.dataset.take(300, seed=1)
        found = view.sort_by_similarity(one.ids[0], k=20, brain_key=KEY).values("id")
        true = one.true(one.ids[0], among=set(view.values("id")))
        assert oracle.recall(found, true, 20) == 1
    finally:
        one.drop()
