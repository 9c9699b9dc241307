"""Selections against numpy, which looks at every candidate each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fiftyone_milvus.errors import InvalidInputError, MissingIDsError
from fiftyone_milvus.selections import Balanced, Diverse, Novel, Similar, Typical, greedy
from tests.support import oracle
from tests.support.indexes import DIM, Indexed, index_images, unknown_id, vectors
from tests.support.once import one_engine, one_metric

SEED = 5


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is brought up to date must be found among all, as in a large index."""
    monkeypatch.setattr(greedy, "_WORKING", 16)


def far(images: Indexed, chosen: list[int]) -> np.ndarray:
    """The scores of being far from what is chosen."""
    metric, rows = images.metric, images.matrix()
    one, other = np.random.default_rng(SEED).integers(len(rows), size=(2, 20_000))
    square = oracle.distances(metric, rows, rows)
    pairs = square[one, other][one != other]
    low, high = min(0.0, np.percentile(pairs, 1)), np.percentile(pairs, 99)
    return (square[:, chosen].min(axis=1) - low) / (high - low)


def share(values: np.ndarray) -> np.ndarray:
    """The share of the others that have a smaller value."""
    return np.array([(values < v).sum() for v in values]) / (len(values) - 1)


def numbers(images: Indexed, found: Any) -> list[int]:
    at = {_id: row for row, _id in enumerate(images.ids)}
    return [at[_id] for _id in found.ids]


def test_it_is_the_greedy_k_center(images: Indexed) -> None:
    found = images.index.select(40, seed=SEED)
    chosen, square = numbers(images, found), oracle.neighbors(images.metric, images.matrix())
    square = np.nan_to_num(square, nan=np.inf)
    atol = oracle.tolerance(square[np.isfinite(square)])
    for count in range(1, 40):
        nearest = square[:, chosen[:count]].min(axis=1)
        left = np.setdiff1d(np.arange(len(square)), chosen[:count])
        assert nearest[chosen[count]] == pytest.approx(nearest[left].max(), abs=atol)
        said = found.reasons[count]["diverse"].split()
        assert float(said[0]) == pytest.approx(nearest[chosen[count]], rel=1e-3, abs=atol)
        other = chosen[found.ids.index(said[-1])]
        assert square[chosen[count], other] == pytest.approx(nearest[chosen[count]], abs=atol)
    to_chosen = oracle.distances(images.metric, images.matrix(), images.matrix(found.ids))
    expected = to_chosen.min(axis=1)
    np.testing.assert_allclose(found.distances, np.sort(expected), atol=atol)
    assert found.radius == pytest.approx(expected.max(), abs=atol)
    again = images.index.select(40, Diverse(strength=3), seed=SEED)
    assert again.ids == found.ids
    assert images.index.select(40, seed=6).ids != found.ids


def test_strategies_together(patches: Indexed) -> None:
    images, ids, rows, metric = patches, patches.ids, patches.matrix(), patches.metric
    others = vectors(4, seed=8)
    strategies = [
        Diverse(0.7),
        Typical(),
        Similar(ids[:9], strength=0.6),
        Novel(others, strength=0.4),
        Balanced("label", strength=0.5),
    ]
    label_of = dict(
        zip(*images.dataset.values([f"ground_truth.detections.{n}" for n in ("id", "label")],
                                   unwind=True), strict=True)
    )  # fmt: skip
    labels = np.array([label_of[i] for i in ids])
    found = images.index.select(30, strategies, seed=SEED)
    chosen = numbers(images, found)
    square = np.nan_to_num(oracle.neighbors(metric, rows), nan=np.inf)
    typical = share(-np.sort(square, axis=1)[:, :10].mean(axis=1))
    similar = share(-oracle.distances(metric, rows, rows[:9]).min(axis=1))
    novel = share(oracle.distances(metric, rows, others).min(axis=1))
    names = np.unique(labels)
    for count, row in enumerate(chosen):
        total = typical + 0.6 * similar + 0.4 * novel
        before = labels[chosen[:count]]
        total += 0.5 * (1 - np.array([(before == v).sum() for v in labels]) / (30 / len(names)))
        total += 0.7 * far(images, chosen[:count]) if count else 0
        total[[*range(9), *chosen[:count]]] = -np.inf
        # Ranks differ where float32 does not tell distances apart
        assert total[row] >= total.max() - 0.02
        assert {*found.reasons[count]} == {"diverse", "typical", "similar", "novel", "balanced"}
        assert f"{(before == labels[row]).sum()} chosen" in found.reasons[count]["balanced"]
    assert found.scores[1:] == pytest.approx(np.sort(found.scores[1:])[::-1])
    assert found.counts == {
        "label": {v: ((labels[chosen] == v).sum(), (labels == v).sum()) for v in names}
    }


@one_engine
@one_metric
def test_what_is_chosen_and_what_not(images: Indexed, patches: Indexed) -> None:
    index, ids = images.index, images.ids
    assert [index.search(like=ids[0], k=6).ids[1:]] == [index.select(5, Similar(ids[0])).ids]
    index.use_view(images.dataset.limit(50))
    found = index.select(400, [Typical(), Novel(ids[10:20])])
    assert {*found.ids} == {*ids[:10], *ids[20:50]}
    assert "of 50 samples" in repr(found)
    index.clear_view()
    assert len(index.select(7, Similar(index))) == 0
    # Another index is a reference too
    other = patches.index
    near = oracle.distances("cosine", images.matrix(), patches.matrix()).min(axis=1)
    found = index.select(5, Similar(other))
    np.testing.assert_allclose(near[numbers(images, found)], np.sort(near)[:5], atol=1e-5)
    # Of patches, each with its sample, and as a view of both
    found = other.select(12, [Diverse(), Balanced("label", strength=20)])
    assert found.sample_ids == [patches.samples[i] for i in found.label_ids]
    counts = [chosen for chosen, total in found.counts["label"].values() if total > 12]
    assert max(counts) - min(counts) <= 1
    assert {*found.view().values("ground_truth.detections.id", unwind=True)} == {*found.ids}


@one_engine
def test_ranks_are_stored_if_a_field_is_given(engine: Any, dropped: list[Indexed]) -> None:
    dropped.append(index_images(engine, 20, "cosine"))
    dataset, index = dropped[0].dataset, dropped[0].index
    before = dataset.get_field_schema().keys()
    found = index.select(5)
    assert found.view().values("id") == found.ids
    assert dataset.get_field_schema().keys() == before
    with pytest.raises(InvalidInputError, match="Invalid field 'number'"):
        index.select(5, field="number")
    index.select(5, field="chosen_rank")
    stored = dict(zip(*dataset.values(["id", "chosen_rank"]), strict=True))
    assert [stored[i] for i in found.ids] == [1, 2, 3, 4, 5]
    assert sum(rank is not None for rank in stored.values()) == 5


@one_engine
@one_metric
@pytest.mark.parametrize(
    ("n", "strategies", "said"),
    [
        (0, None, "Invalid n 0"),
        (5, [], "no strategy"),
        (5, [Diverse(0)], "no strategy"),
        (5, "diverse", "Invalid strategy 'diverse'"),
        (5, Balanced("nothing"), "no field 'nothing'"),
        (5, Balanced("tags"), "expected one text, number or boolean"),
        (5, Similar([]), "reference is empty"),
        (5, Novel(np.ones((2, DIM + 1))), "dimensions"),
    ],
)
def test_what_can_not_be_selected(images: Indexed, n: int, strategies: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as raised:
        images.index.select(n, strategies, field="not_written")
    assert "\n" not in str(raised.value)
    assert not images.dataset.has_field("not_written")
    with pytest.raises(MissingIDsError):
        images.index.select(5, Similar([unknown_id(), images.ids[0]]))
    with pytest.raises(InvalidInputError, match="Invalid strength"):
        Diverse(-1)
