"""An index takes numpy's integers wherever it takes an int."""

from __future__ import annotations

import numpy as np
import pytest

import fiftyone_milvus
from tests.support.indexes import KEY, index_images

THREE = np.int64(3)


def test_numpy_integers_are_as_good_as_ints(engine, dropped):
    indexed = index_images(engine, 40, "cosine", timeout=np.float32(60))
    dropped.append(indexed)
    dataset, index, query = indexed.dataset, indexed.index, indexed.ids[0]
    view = dataset.sort_by_similarity(query, k=THREE, brain_key=KEY)
    found = index.search(query, k=THREE)
    assert view.values("id") == list(found.sample_ids) == index._kneighbors(query, k=3)[0]
    assert index.explain(query, k=THREE).k == 3
    everywhere = fiftyone_milvus.search_everywhere(query, k=THREE, datasets=[dataset.name])
    assert [result.sample_id for result in everywhere] == list(found.sample_ids)

    sizes = [len(ids) for _, ids, _ in index.iter_embeddings(batch_size=np.uint8(16))]
    assert sum(sizes) == 40
    assert max(sizes) <= 16
    evaluation = index.evaluate(queries=np.int32(5), k=THREE, seed=np.int64(1))
    assert (evaluation.k, evaluation.queries) == (3, 5)
    assert type(evaluation.k) is int
    assert len(index.nearest_distances(sample=THREE)) == 3
    index.find_unique(THREE)
    assert len(index.unique_ids) == 3
    tuned = index.tune(0.9, k=THREE, queries=THREE, store=False)
    assert type(tuned.to_dict()["k"]) is int
    for refused in (True, 3.0, np.float64(3)):
        with pytest.raises(ValueError, match="Invalid k"):
            index.search(query, k=refused)
