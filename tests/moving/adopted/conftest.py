"""Makes the indexes of other modules' tests with the real built-in backend, and adopts them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone.brain as fob
import pytest

from fiftyone_milvus import moving
from fiftyone_milvus.index import MilvusSimilarityIndex
from tests.conftest import Engine
from tests.support.indexes import DIM, Indexed, built_in, image_dataset, patch_dataset, vectors

AGAIN = 25


@pytest.fixture(scope="module")
def metric() -> str:
    return "cosine"


@pytest.fixture(scope="module", autouse=True)
def _adopted(request: pytest.FixtureRequest, engine: Engine) -> Iterator[None]:
    """Has ``fob.compute_similarity(backend="milvus")`` make a run of the built-in and adopt it."""
    compute_similarity = fob.compute_similarity
    dim = getattr(request.module, "DIM", DIM)

    def adopted(samples: Any, **kwargs: Any) -> Any:
        if kwargs.get("backend") != "milvus":
            return compute_similarity(samples, **kwargs)
        del kwargs["backend"]
        data = kwargs.pop("embeddings", None)
        index = built_in(engine, samples, data, **{"metric": "dotproduct", **kwargs})
        if data is False:
            # The built-in makes one with the first vector only
            index._create_collection(dim)
        dataset = samples._root_dataset
        done = moving.adopt(dataset, index.key)
        assert done.changed
        ours = dataset.load_brain_results(index.key)
        assert type(ours) is MilvusSimilarityIndex
        return ours

    # The built-in's engine says in this process which calls of Milvus it does not know
    grpc = logging.getLogger("grpc")
    level = grpc.level
    grpc.setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(fob, "compute_similarity", adopted)
        yield
    grpc.setLevel(level)


@pytest.fixture(scope="package")
def _shared(engine: Engine) -> Iterator[Callable[[str, str], Indexed]]:
    made: dict[str, Indexed] = {}
    builders = {"images": _images, "patches": _patches}

    def get(what: str, _: str) -> Indexed:
        if what not in made:
            made[what] = builders[what](engine)
            indexed = made[what]
            done = moving.adopt(indexed.dataset, "sim", **indexed.kwargs)
            assert (done.vectors, done.missing, done.stale) == (len(indexed.ids), 0, 0)
            # Milvus Lite replaces rows of a known key by itself
            again = AGAIN if engine.name == "server" and what == "images" else 0
            assert done.repeated == again
            indexed.index = indexed.dataset.load_brain_results("sim")
        return made[what]

    yield get
    for indexed in made.values():
        indexed.drop()


def _images(engine: Engine) -> Indexed:
    dataset, data = image_dataset(300), vectors(300)
    index = built_in(engine, dataset, data)
    ids = dataset.values("id")
    # What it appends to rows of the same keys
    index.add_to_index(data[:AGAIN], ids[:AGAIN])
    truth = dict(zip(ids, data, strict=True))
    own = dict(zip(ids, ids, strict=True))
    return Indexed(dataset, index, "cosine", truth, dict(engine.kwargs), own)


def _patches(engine: Engine) -> Indexed:
    dataset = patch_dataset(80)
    sample_ids, label_ids = dataset.values(["id", "ground_truth.detections.id"])
    owner = {
        _id: sample for sample, ids in zip(sample_ids, label_ids, strict=True) for _id in ids or []
    }
    data = vectors(len(owner), seed=52)
    index = built_in(engine, dataset, patches_field="ground_truth")
    index.add_to_index(data, list(owner.values()), label_ids=list(owner))
    truth = dict(zip(owner, data, strict=True))
    return Indexed(dataset, index, "cosine", truth, dict(engine.kwargs), owner)
