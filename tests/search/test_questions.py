"""Questions of many parts, and diverse results, against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from PIL import Image

from fiftyone_milvus import Crop
from fiftyone_milvus.errors import InvalidInputError, MissingIDsError
from tests.support import oracle
from tests.support.indexes import DIM, Indexed, unknown_id, vectors
from tests.support.once import one_engine, one_metric


def unit(values: Any, metric: str) -> np.ndarray:
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if metric == "cosine":
        return values / np.linalg.norm(values, axis=1, keepdims=True)
    return values


def check(found: Any, true: dict[str, float], k: int) -> None:
    oracle.check_ranking(found.ids, true, k, reported=found.distances.tolist())


def test_parts_are_put_together(images: Indexed) -> None:
    index, metric, ids = images.index, images.metric, images.ids
    rows = unit(images.matrix(), metric)
    other = vectors(1, seed=5)[0] * 2
    # Of two arguments, each counts the same, however many items it has
    liked = (rows[[3, 4, 5]].mean(axis=0) + unit(other, metric)[0]) / 2
    unliked = rows[[7, 9]].mean(axis=0)
    found = index.search(other, like=ids[3:6], unlike=[ids[7], ids[9]], k=20)
    check(found, images.true((2 * liked - unliked)[None]), 20)
    # A view is one part, a list has one for each item, and only these can be weighed
    view = images.dataset.select(ids[3:6])
    assert index.search(other, like=view, unlike=[ids[7], ids[9]], k=20).ids == found.ids
    weights = {"query": 3, "like": [1, 0, 2], "unlike": 0.5}
    liked = (3 * unit(other, metric)[0] + rows[[3, 5, 5]].mean(axis=0)) / 4
    found = index.search(other, like=ids[3:6], unlike=ids[7], weights=weights, k=20)
    check(found, images.true((1.5 * liked - 0.5 * rows[7])[None]), 20)
    found = index.search(like=[view, ids[8], images.matrix()[11]], k=20, reverse=True)
    mean = np.stack([rows[3:6].mean(axis=0), rows[8], rows[11]]).mean(axis=0)
    oracle.check_ranking(found.ids, images.true(mean[None]), 20, reverse=True)
    found = index.search(like=images.matrix()[3:6].tolist(), k=20)
    check(found, images.true(rows[3:6].mean(axis=0)[None]), 20)
    # In a view, with a distance, and with FiftyOne's own negatives as they were
    few = images.dataset.limit(100)
    index.use_view(few)
    check(index.search(like=ids[:2], k=15), images.true(rows[:2], few.values("id")), 15)
    index.clear_view()
    raw = images.matrix()
    away = 2 * raw[[3, 4]].mean(axis=0) - raw[[7, 9]].mean(axis=0)
    found = index.search(ids[3:5], negative=[ids[7], ids[9]], k=20)
    check(found, images.true(away[None]), 20)


def mmr(metric: str, query: np.ndarray, pool: np.ndarray, k: int, diverse: float) -> list[int]:
    """Chooses by the formula of Carbonell and Goldstein, term by term."""
    to_query = oracle.distances(metric, query, pool)[0]
    between = oracle.distances(metric, pool, pool)
    pairs = between[~np.eye(len(pool), dtype=bool)]
    relevance = (to_query.max() - to_query) / np.ptp(to_query)
    similarity = (pairs.max() - between) / np.ptp(pairs)
    chosen: list[int] = []
    while len(chosen) < k:
        best, value = -1, -np.inf
        for i in range(len(pool)):
            likest = max((similarity[i, j] for j in chosen), default=0.0)
            score = (1 - diverse) * relevance[i] - diverse * likest
            if i not in chosen and score > value:
                best, value = i, score
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("diverse", [0.3, 1])
def test_results_that_differ(images: Indexed, diverse: float) -> None:
    index, metric = images.index, images.metric
    query = vectors(1, seed=99)[0]
    near = index.search(query, k=100)
    pool = images.matrix(near.ids)
    expected = mmr(metric, query, pool, 12, diverse)
    found = index.search(query, k=12, diverse=diverse)
    assert found.ids == [near.ids[i] for i in expected]
    np.testing.assert_allclose(found.distances, near.distances[expected], atol=1e-5)
    assert found.ids[0] == near.ids[0]
    assert f"to {found.distances.max():.4g}" in repr(found).splitlines()[0]
    assert index.search(query, k=12, diverse=0).ids == near.ids[:12]


@one_engine
@one_metric
def test_diverse_with_other_limits(images: Indexed, patches: Indexed) -> None:
    index, query = images.index, vectors(1, seed=99)[0]
    within = index.search(query, k=60).distances[-1]
    found = index.search(query, max_distance=within, diverse=0.5)
    assert set(found.ids) == set(index.search(query, max_distance=within).ids)
    far = index.search(query, k=100, reverse=True)
    found = index.search(query, k=10, reverse=True, diverse=0.5)
    assert found.ids[0] == far.ids[0]
    assert set(found.ids) <= set(far.ids)
    one_each = patches.index.search(query, k=10, group_by="sample_id", diverse=0.8)
    assert len(set(one_each.sample_ids)) == 10
    assert len(index.search(query, k=1000, diverse=0.5)) == len(images.ids)


@one_engine
@pytest.mark.parametrize("metric", ["cosine"])
def test_every_kind_of_part(
    engine: Any, metric: str, colours: fo.Dataset, dropped: list[Any]
) -> None:
    index = fob.compute_similarity(
        colours, model="contract-colours", metric=metric, brain_key="c", backend="milvus",
        **engine.kwargs,
    )  # fmt: skip
    dropped.append(Indexed(colours, index, metric, {}, {}))
    samples, model = list(colours), index.get_model()
    stored, sample_ids, _ = index.get_embeddings()
    path = samples[0].filepath
    pixels = np.asarray(Image.open(path).convert("RGB")).copy()
    pixels[:, 6:] = (20, 200, 30)

    def true(query: np.ndarray) -> dict[str, float]:
        return dict(zip(sample_ids, oracle.distances(metric, query, stored)[0], strict=True))

    def of(text: str) -> np.ndarray:
        return unit(model.embed_prompt(text), metric)[0]

    image, right = (unit(model.embed(p), metric)[0] for p in (pixels, pixels[:, 6:]))
    check(index.search(text="red", image=pixels, k=9), true((of("red") + image) / 2), 9)
    for box in ([0.5, 0, 0.5, 1], np.array([0.5, 0, 0.5, 1])):
        check(index.search(image=pixels, region=box, k=9), true(right), 9)
    check(index.search(like=Crop(pixels, (0.5, 0, 0.5, 1)), k=9), true(right), 9)
    # A path, a sample whose file is read, and its stored vector are one here
    first = unit(index.get_embeddings(samples[0].id)[0], metric)[0]
    for part in (path, Path(path), samples[0]):
        found = index.search(image=part, unlike=["green"], k=9)
        check(found, true(2 * unit(model.embed(Image.open(path)), metric)[0] - of("green")), 9)
        check(index.search(text="blue", like=part, k=9), true((of("blue") + first) / 2), 9)
    # A path that is given as a text is a text
    check(index.search(text=path, k=9), true(of(path)), 9)

    told = index.explain(text="blue", image=pixels, region=[0.5, 0, 0.5, 1], unlike=samples[3], k=5)
    assert told.question is not None
    assert told.question.shares == [1, 1, -1]
    whole = of("blue") + right - unit(index.get_embeddings(samples[3].id)[0], metric)[0]
    np.testing.assert_allclose(told.question.vector, whole, atol=1e-6)
    lines = str(told).splitlines()
    expected = oracle.distances(metric, of("blue"), whole)[0, 0]
    assert any("+1.000" in x and "'blue'" in x and f"{expected:.4g}" in x for x in lines)
    assert any("-1.000" in x and f"sample {samples[3].id}" in x for x in lines)
    assert any("[0.5, 0, 0.5, 1] of an image of 12 x 12" in x for x in lines)


@one_engine
@one_metric
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing to search by"),
        ({"unlike": 3}, "Only unlike is given"),
        ({"like": 3, "weights": {"text": 1}}, "weights for what is given: like"),
        ({"like": 3, "weights": 2}, "expected a dict of weights"),
        ({"like": 3, "weights": {"like": -1}}, "of at least 0"),
        ({"like": 3, "weights": {"like": float("nan")}}, "of at least 0"),
        ({"like": 3, "weights": {"like": 0}}, "All weights .* are 0"),
        ({"like": [3, 4], "weights": {"like": [1, 2, 3]}}, "3 weights for 2 parts"),
        ({"like": 3, "region": [0, 0, 1, 1]}, "region is of one image, and 0 are given"),
        ({"image": "a.png", "region": [0, 0, 2, 1]}, "Invalid region"),
        ({"image": "a.png", "region": "0,0,1,1"}, "Invalid region"),
        ({"image": 7}, "Invalid image 7"),
        ({"image": np.zeros((4, 4, 3), np.uint8)}, "no model"),
        ({"text": "a cat"}, "has no model"),
        ({"text": " "}, "Invalid text"),
        ({"like": 3, "negative": 4}, "negative is for a query alone.*pass unlike"),
        ({"query": 3, "like": 4, "aggregation": "max"}, "aggregation='max' is for a query alone"),
        ({"query": 3, "diverse": 1.5}, "Invalid diverse 1.5"),
        ({"query": 3, "diverse": 0.5, "k": 1001}, "at most 1000"),
        ({"like": [np.ones(DIM), -np.ones(DIM)]}, "cancel each other out"),
    ],
)  # fmt: skip
def test_what_is_no_question(images: Indexed, given: dict[str, Any], said: str) -> None:
    def part(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(i, int) for i in value):
            return [images.ids[i] for i in value]
        return images.ids[value] if isinstance(value, int) else value

    named = ("query", "like", "unlike", "negative")
    with pytest.raises(InvalidInputError, match=said) as raised:
        images.index.search(**{n: part(v) if n in named else v for n, v in given.items()})
    assert "\n" not in str(raised.value)
    with pytest.raises(MissingIDsError):
        images.index.search(like=[images.ids[0], unknown_id()])
