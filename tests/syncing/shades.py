"""A model that embeds images by their colour, and what an index of them must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
import pytest

from fiftyone_milvus.index import MilvusSimilarityIndex

FILES = 40
DIM = 5

# Nothing that an engine could do otherwise
one_engine = pytest.mark.parametrize("engine", ["embedded"], indirect=True)


class Shade(fom.Model):
    """Embeds an image by its mean colour; fails where it is told to.

    Args:
        bad: the red of images on which it raises
        nan: the red of images whose embedding is NaN
    """

    def __init__(self, bad: set[int] | None = None, nan: set[int] | None = None) -> None:
        self.bad, self.nan = bad or set(), nan or set()
        self.images = 0
        self.stop_at: int | None = None

    media_type = "image"
    has_embeddings = True
    can_embed_prompts = False
    ragged_batches = False
    transforms = None
    preprocess = False

    def predict(self, arg: Any) -> None:
        raise NotImplementedError

    def embed(self, arg: Any) -> np.ndarray:
        return self.embed_all([arg])[0]

    def embed_all(self, args: Any) -> np.ndarray:
        found = []
        for image in args:
            if self.images == self.stop_at:
                raise KeyboardInterrupt
            self.images += 1
            red, green, blue = np.asarray(image).reshape(-1, 3).mean(axis=0)
            if int(red) in self.bad:
                raise RuntimeError(f"red {int(red)} is\nnot for me")
            factor = np.nan if int(red) in self.nan else 1.0
            found.append(np.array([red, green, blue, 1, 2]) * factor)
        return np.stack(found)


class Wide(Shade):
    """Embeds an image at once, by its red and many zeros."""

    DIM = 128

    def embed_all(self, args: Any) -> np.ndarray:
        found = np.zeros((len(args), self.DIM), np.float32)
        found[:, 0] = [image[0, 0, 0] for image in args]
        return found


def truth(number: int) -> np.ndarray:
    return np.array([3 * number, 200 - number, 7, 1, 2], dtype=np.float32)


def sample(path: str, **values: Any) -> fo.Sample:
    return fo.Sample(filepath=path, number=int(Path(path).stem), **values)


def content(index: MilvusSimilarityIndex) -> dict[str, list[float]]:
    vectors, sample_ids, label_ids = index.get_embeddings()
    ids = sample_ids if label_ids is None else label_ids
    assert len(set(ids)) == len(ids) == index.total_index_size
    return dict(zip(ids.tolist(), vectors.tolist()))


def expected(view: Any) -> dict[str, list[float]]:
    return {s.id: truth(s.number).tolist() for s in view}


def counts(report: Any) -> tuple[int, int, int, int, int]:
    return report.added, report.updated, report.removed, report.unchanged, len(report.failed)


def patches(dataset: fo.Dataset, label: str | None = None) -> dict[str, list[float]]:
    return {
        detection.id: truth(s.number).tolist()
        for s in dataset
        if s.objects is not None
        for detection in s.objects.detections
        if label in (None, detection.label)
    }
