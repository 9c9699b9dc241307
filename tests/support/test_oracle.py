"""The oracle itself, against answers worked out by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as skm

from tests.support import oracle

POINTS = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])


def test_distances_by_hand():
    np.testing.assert_allclose(oracle.distances("euclidean", [0, 0], POINTS), [[1, 2, 5]])
    np.testing.assert_allclose(oracle.distances("dotproduct", [1, 1], POINTS), [[0, -1, -6]])
    np.testing.assert_allclose(oracle.distances("cosine", [1, 0], POINTS), [[0, 1, 0.4]])


def test_distances_agree_with_sklearn():
    vectors = np.random.default_rng(0).normal(size=(20, 8))
    for metric in ("cosine", "euclidean"):
        expected = skm.pairwise_distances(vectors, metric=metric)
        np.testing.assert_allclose(oracle.distances(metric, vectors, vectors), expected, atol=1e-6)


def test_aggregations_by_hand():
    queries = [[0.0, 0.0], [3.0, 4.0]]
    each = {"post-min": [1, 2, 0], "post-max": [np.sqrt(20), np.sqrt(13), 5]}
    for how, expected in each.items():
        got = oracle.aggregated("euclidean", queries, POINTS, how)
        np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(
        oracle.aggregated("euclidean", queries, POINTS, "mean"),
        oracle.distances("euclidean", [1.5, 2.0], POINTS)[0],
    )


def test_check_ranking_accepts_ties_and_refuses_the_rest():
    true = {"a": 0.0, "b": 1.0, "c": 1.0 + 1e-7, "d": 2.0}
    oracle.check_ranking(["a", "c", "b"], true, 3)
    oracle.check_ranking(["d", "b"], true, 2, reverse=True)
    oracle.check_ranking(["a", "b", "c", "d"], true, None, reported=[0, 1, 1, 2])
    for wrong in (["a", "b"], ["a", "d", "b"], ["b", "a", "c"], ["a", "a", "b"], ["a", "b", "x"]):
        with pytest.raises(AssertionError):
            oracle.check_ranking(wrong, true, 3)
    with pytest.raises(AssertionError):
        oracle.check_ranking(["a", "b"], true, 2, reported=[0, 2])


def test_recall_counts_what_came_back():
    true = {i: float(i) for i in range(10)}
    assert oracle.recall([0, 1, 2, 3], true, 4) == 1.0
    assert oracle.recall([0, 1, 8, 9], true, 4) == 0.5
    assert oracle.recall([9, 8], true, 2, reverse=True) == 1.0
    assert oracle.recall([0, 1], true, 4) == 0.5


def test_neighborhoods_exclude_the_vector_itself():
    line = np.array([[0.0], [1.0], [2.0], [10.0]])
    near = oracle.within("euclidean", line, 1.5)
    assert near == [{1}, {0, 2}, {1}, set()]
    assert oracle.kept(near) == {0, 2, 3}
    thresh = oracle.clear_thresh("euclidean", line, 0.5)
    assert np.abs(oracle.distances("euclidean", line, line) - thresh).min() > 0.1
