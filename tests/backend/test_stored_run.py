"""A dataset whose indexes an older release stored: its documents, and its embedded engine's data.

See ``stored_run/make.py``, which made them with the release of 2026-11-25 (commit 9c66810).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import fiftyone as fo
import fiftyone.core.odm as foo
import numpy as np
import pytest

from fiftyone_milvus.backend import MilvusSimilarityConfig, _warn_of_unknown
from tests.backend.stored_run.make import ARCHIVE, COUNT, DATABASE, DIM, NAME
from tests.support import oracle


@pytest.fixture
def dataset() -> Iterator[fo.Dataset]:
    """The dataset, as in a database that was copied here."""
    database = foo.get_db_conn()
    for collection, documents in bson.decode(DATABASE.read_bytes()).items():
        database[collection].insert_many(documents)
    dataset = fo.load_dataset(NAME)
    yield dataset
    dataset.delete()


@pytest.fixture
def path(embedded_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The embedded engine's data, at its default place: a run does not store where that is."""
    embedded_path.mkdir()
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.10 and 3.11 may not know the filter
        archive.extractall(embedded_path)
    monkeypatch.setenv("FIFTYONE_MILVUS_PATH", str(embedded_path))
    return embedded_path


def check(index: Any, metric: str, truth: dict[str, np.ndarray], query: np.ndarray) -> None:
    """The index holds these vectors, and finds the nearest of them."""
    assert index.total_index_size == len(truth)
    vectors, sample_ids, label_ids = index.get_embeddings()
    held = dict(zip(sample_ids if label_ids is None else label_ids, vectors, strict=True))
    assert held.keys() == truth.keys()
    for key, vector in held.items():
        np.testing.assert_array_equal(vector, truth[key])
    samples, labels, reported = index._kneighbors(query=query, k=9, return_dists=True)
    distances = oracle.distances(metric, query, np.stack(list(truth.values())))[0]
    true = dict(zip(truth, distances.tolist(), strict=True))
    oracle.check_ranking(samples if labels is None else labels, true, 9, reported=reported)


def embeddings_of(dataset: fo.Dataset) -> dict[str, np.ndarray]:
    return dict(zip(*dataset.values(["id", "embedding"]), strict=True))


def test_images(dataset: fo.Dataset, path: Path) -> None:
    index = dataset.load_brain_results("images")
    assert (type(index).__module__, type(index).__name__) == (
        "fiftyone_milvus.index",
        "MilvusSimilarityIndex",
    )
    assert type(index.config).__module__ == "fiftyone_milvus.backend"
    truth = embeddings_of(dataset)
    query = np.random.default_rng(3).normal(size=DIM).astype(np.float32)
    check(index, "cosine", truth, query)

    # A view of the fields that it stores
    view = dataset.match((fo.ViewField("split") == "test") & (fo.ViewField("number") < 30))
    found = view.sort_by_similarity(query.tolist(), k=5, brain_key="images").values("id")
    inside = {i: truth[i] for i in view.values("id")}
    distances = oracle.distances("cosine", query, np.stack(list(inside.values())))[0]
    oracle.check_ranking(found, dict(zip(inside, distances.tolist(), strict=True)), 5)

    dataset.delete_samples(dataset.limit(3))
    added = dataset.add_samples(
        [
            fo.Sample(f"new-{i}.jpg", number=COUNT + i, split="test", embedding=query + i)
            for i in range(2)
        ]
    )
    report = index.sync(embeddings="embedding")
    assert (report.added, report.removed) == (2, 3)
    truth = embeddings_of(dataset)
    check(index, "cosine", truth, query)

    index.remove_from_index(sample_ids=added)
    check(index, "cosine", {i: v for i, v in truth.items() if i not in added}, query)
    index.add_to_index(np.stack([truth[i] for i in added]), added)
    check(index, "cosine", truth, query)


def test_patches(dataset: fo.Dataset, path: Path) -> None:
    index = dataset.load_brain_results("patches")
    samples = [
        (sample.id, label.id, label.embedding)
        for sample in dataset
        for label in sample.ground_truth.detections
    ]
    truth = {label: vector for _, label, vector in samples}
    query = np.random.default_rng(4).normal(size=DIM).astype(np.float32)
    check(index, "euclidean", truth, query)

    owner, label, vector = samples[0]
    index.remove_from_index(label_ids=[label])
    check(index, "euclidean", {i: v for i, v in truth.items() if i != label}, query)
    index.add_to_index(vector[np.newaxis], [owner], label_ids=[label])
    check(index, "euclidean", truth, query)


def test_of_a_later_version(
    dataset: fo.Dataset, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Parameters that only it knows are kept, and named once; a user's are refused."""
    runs = foo.get_db_conn()["runs"]
    later = {"hyperspace": {"depth": 3}, "warp_speed": 9}
    query = {"_dataset_id": dataset._doc.id, "key": "images"}
    runs.update_one(query, {"$set": {f"config.{name}": value for name, value in later.items()}})
    dataset.reload()
    _warn_of_unknown.cache_clear()
    with caplog.at_level("WARNING", logger="fiftyone_milvus"):
        index = dataset.load_brain_results("images")
        assert dataset.get_brain_info("images").config.warp_speed == 9
    (said,) = [r.getMessage() for r in caplog.records if r.name == "fiftyone_milvus.backend"]
    assert "hyperspace, warp_speed" in said
    query_vector = np.random.default_rng(3).normal(size=DIM).astype(np.float32)
    check(index, "cosine", embeddings_of(dataset), query_vector)

    index.config.timeout = 30.0
    index.save_config()
    written = runs.find_one(query)["config"]
    assert {name: written[name] for name in later} == later
    assert (written["timeout"], written["cls"]) == (30.0, index.config.cls)
    dataset.rename_brain_run("images", "renamed")
    renamed = runs.find_one({**query, "key": "renamed"})["config"]
    assert {name: renamed[name] for name in later} == later
    with pytest.raises(ValueError, match="Unknown parameter 'warp_speed'"):
        MilvusSimilarityConfig(warp_speed=9)
