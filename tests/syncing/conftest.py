"""Datasets of images of one colour each, and indexes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import pytest
from PIL import Image

from fiftyone_milvus.index import MilvusSimilarityIndex
from tests.support.indexes import KEY, unique
from tests.syncing.shades import FILES, Shade, sample

Make = Callable[..., MilvusSimilarityIndex]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("shades")
    paths = [str(root / f"{i:03d}.png") for i in range(FILES)]
    for i, path in enumerate(paths):
        Image.new("RGB", (6, 4), (3 * i, 200 - i, 7)).save(path)
    return paths


@pytest.fixture
def dataset(files: list[str]) -> Iterator[fo.Dataset]:
    dataset = fo.Dataset(unique("sync"))
    dataset.add_samples([sample(path) for path in files[:30]])
    yield dataset
    if not dataset.deleted:
        dataset.delete()


@pytest.fixture
def make(engine: Any) -> Iterator[Make]:
    made: list[MilvusSimilarityIndex] = []

    def make(dataset: fo.Dataset, **kwargs: Any) -> MilvusSimilarityIndex:
        kwargs = {"model": Shade(), "brain_key": KEY, "embeddings": False, **kwargs}
        made.append(fob.compute_similarity(dataset, backend="milvus", **kwargs, **engine.kwargs))
        return made[-1]

    yield make
    for index in made:
        index.cleanup()


@pytest.fixture
def pages(files: list[str]) -> Iterator[fo.Dataset]:
    """30 samples with 0 to 3 patches each, which all have the colour of their image."""
    dataset = fo.Dataset(unique("sync_patches"))
    box = [0.0, 0.0, 0.9, 0.9]
    for i, path in enumerate(files[:30]):
        labels = [fo.Detection(label="ab"[j % 2], bounding_box=box) for j in range(i % 4)]
        objects = fo.Detections(detections=labels) if i % 8 else None
        dataset.add_sample(sample(path, objects=objects))
    yield dataset
    dataset.delete()
