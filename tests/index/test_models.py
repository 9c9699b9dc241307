"""Indexes made by a model: embeddings computed for us, and prompts."""

from __future__ import annotations

from collections import Counter

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo as foz
import numpy as np
import pytest
from fiftyone import ViewField as F

from tests.support.indexes import KEY

MODEL = "contract-colours"


@pytest.fixture
def index(engine, colours):
    index = fob.compute_similarity(
        colours, model=MODEL, brain_key=KEY, backend="milvus", metric="cosine", **engine.kwargs
    )
    yield index
    index.cleanup()


def test_a_zoo_model_by_name(colours, index):
    assert index.total_index_size == 30
    assert index.supports_prompts
    assert index.config.supports_prompts is True
    assert index.config.model == MODEL
    assert colours.list_brain_runs(type=fob.Similarity, supports_prompts=True) == [KEY]
    red = colours.match(F("colour") == "red").first().id
    view = colours.sort_by_similarity(red, k=10, brain_key=KEY)
    assert view.values("colour") == ["red"] * 10


def test_prompts(colours, index):
    for colour in ("red", "green", "blue"):
        view = colours.sort_by_similarity(f"something {colour}", k=10, brain_key=KEY)
        assert view.values("colour") == [colour] * 10
        part = colours.match(F("colour") != "red")
        expected = {"red": 0}.get(colour, 10)
        got = part.sort_by_similarity(f"something {colour}", k=10, brain_key=KEY)
        assert Counter(got.values("colour"))[colour] == expected
        assert len(got) == 10
    both = colours.sort_by_similarity(["all red", "all blue"], k=20, brain_key=KEY)
    assert set(both.values("colour")) == {"red", "blue"}
    least = colours.sort_by_similarity("red", k=20, reverse=True, brain_key=KEY)
    assert "red" not in least.values("colour")
    default = colours.sort_by_similarity("green", k=10)
    assert set(default.values("colour")) == {"green"}


def test_computing_what_is_missing(colours, index):
    ids = colours.values("id")
    index.remove_from_index(sample_ids=ids[5:12])
    embeddings, sample_ids, label_ids = index.compute_embeddings(colours, skip_existing=True)
    assert sorted(sample_ids) == sorted(ids[5:12])
    assert label_ids is None
    index.add_to_index(embeddings, sample_ids)
    assert index.total_index_size == 30
    embeddings, sample_ids, _ = index.compute_embeddings(colours, skip_existing=True)
    assert len(embeddings) == len(sample_ids) == 0
    embeddings, sample_ids, _ = index.compute_embeddings(colours.limit(4))
    np.testing.assert_allclose(
        embeddings, index.get_embeddings(sample_ids=sample_ids)[0], atol=1e-6
    )


def test_a_model_instance(engine, colours):
    model = foz.load_zoo_model(MODEL)
    index = fob.compute_similarity(
        colours, model=model, brain_key="instance", backend="milvus", **engine.kwargs
    )
    assert index.total_index_size == 30
    assert index.config.model is None
    assert len(index.sort_by_similarity("a red one", k=5)) == 5
    index.cleanup()


def test_embeddings_from_a_field(engine, colours):
    model = foz.load_zoo_model(MODEL)
    colours.compute_embeddings(model, embeddings_field="emb")
    for embeddings in (
        "emb",
        {i: np.ones(8) * (n + 1) for n, i in enumerate(colours.values("id"))},
    ):
        index = fob.compute_similarity(
            colours,
            embeddings=embeddings,
            model=MODEL,
            brain_key="field",
            backend="milvus",
            **engine.kwargs,
        )
        assert index.total_index_size == 30
        assert index.supports_prompts
        index.cleanup()
        colours.delete_brain_run("field")


@pytest.mark.parametrize("patches_field", [None, "boxes"])
def test_a_models_embeddings_are_stored_in_a_field(engine, colours, patches_field):
    """As by FiftyOne's default backend: in the index, and in the named field of the dataset."""
    for sample in colours:
        boxes = [fo.Detection(label="all", bounding_box=[0, 0, 1, 1]) for _ in range(2)]
        sample["boxes"] = fo.Detections(detections=boxes)
        sample.save()
    found = {}
    for backend, kwargs in (("sklearn", {}), ("milvus", engine.kwargs)):
        field = f"by_{backend}"
        index = fob.compute_similarity(
            colours,
            patches_field=patches_field,
            model=MODEL,
            embeddings=field,
            brain_key=backend,
            backend=backend,
            **kwargs,
        )
        path = field if patches_field is None else f"boxes.detections.{field}"
        found[backend] = colours.values(path, unwind=patches_field is not None)
        assert type(colours.get_field(path)).__name__ == "VectorField"
    np.testing.assert_allclose(found["milvus"], found["sklearn"], atol=1e-6)
    ids = colours.values("id" if patches_field is None else "boxes.detections.id", unwind=True)
    embeddings, sample_ids, label_ids = index.get_embeddings()
    stored = dict(zip(ids, found["milvus"], strict=True))
    for _id, vector in zip(sample_ids if label_ids is None else label_ids, embeddings):
        np.testing.assert_array_equal(vector, stored[_id])
    # The samples are as old as their index: nothing of it counts as edited
    assert index.sync(refresh=True).added == 0

    # From then on, too; and a field that was there is only read
    index.remove_from_index(sample_ids=[sample_ids[0]])
    given = {"label_ids": label_ids[:1]} if label_ids is not None else {}
    index.add_to_index(embeddings[:1] * 2, sample_ids[:1], **given)
    now = dict(zip(ids, colours.values(path, unwind=patches_field is not None), strict=True))
    np.testing.assert_array_equal(
        now[(sample_ids if label_ids is None else label_ids)[0]], 2 * embeddings[0]
    )
    before = colours._dataset._sample_collection.find_one()["last_modified_at"]
    again = fob.compute_similarity(
        colours,
        patches_field=patches_field,
        model=MODEL,
        embeddings=field,
        brain_key="again",
        backend="milvus",
        **engine.kwargs,
    )
    assert colours._dataset._sample_collection.find_one()["last_modified_at"] == before
    assert again.total_index_size == len(ids)
    again.cleanup()
    index.cleanup()


def test_samples_without_an_embedding_are_not_indexed(engine, colours):
    ids = colours.values("id")
    colours.set_values(
        "emb", {i: np.arange(1.0, 5.0) + n for n, i in enumerate(ids[:20])}, key_field="id"
    )
    index = fob.compute_similarity(
        colours, embeddings="emb", brain_key="some", backend="milvus", **engine.kwargs
    )
    assert index.total_index_size == 20
    assert sorted(index.sample_ids) == sorted(ids[:20])
    index.cleanup()


def test_patches_by_model(engine, colours):
    index = fob.compute_similarity(
        colours,
        patches_field="ground_truth",
        model=MODEL,
        brain_key="things",
        backend="milvus",
        metric="cosine",
        **engine.kwargs,
    )
    try:
        assert index.total_index_size == 60
        view = colours.to_patches("ground_truth")
        got = view.sort_by_similarity("a blue thing", k=20, brain_key="things")
        assert set(got.values("ground_truth.label")) == {"blue"}
        gone = index.label_ids[:6].tolist()
        index.remove_from_index(label_ids=gone)
        _, _, label_ids = index.compute_embeddings(colours, skip_existing=True)
        assert sorted(label_ids) == sorted(gone)
        assert colours.list_brain_runs(
            type=fob.Similarity, patches_field="ground_truth", supports_prompts=True
        ) == ["things"]
    finally:
        index.cleanup()
