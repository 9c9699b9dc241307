"""A dataset of very many samples, and a model that costs next to nothing."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
from bson import ObjectId
from PIL import Image

from benchmarks.vectors import Array

_FILES = 16
_SIDE = 8
_FIRST = 1_000
_BLOCK = 10_000


class Synthetic(fom.Model):
    """Embeds an image as a random vector.

    Args:
        dim: of the embeddings
        sleep: the seconds to sleep for each image, as if something other than this machine's
            processor embedded them
    """

    media_type = "image"
    has_embeddings = True
    can_embed_prompts = False
    ragged_batches = False
    transforms = None
    preprocess = False

    def __init__(self, dim: int, sleep: float = 0.0) -> None:
        self.seconds = 0.0
        self._dim = dim
        self._sleep = sleep
        self._random = np.random.default_rng(54)

    def predict(self, arg: Any) -> None:
        raise NotImplementedError

    def embed(self, arg: Any) -> Array:
        return self.embed_all([arg])[0]

    def embed_all(self, args: Any) -> Array:
        start = time.perf_counter()
        found = self._random.standard_normal((len(args), self._dim), dtype=np.float32)
        if self._sleep:
            time.sleep(self._sleep * len(args))
        self.seconds += time.perf_counter() - start
        return found


def make_images(rows: int, folder: Path) -> Any:
    """Returns a new, persistent dataset of that many samples of a few tiny images."""
    folder.mkdir(exist_ok=True)
    colors = np.random.default_rng(55).integers(0, 255, (_FILES, _SIDE, _SIDE, 3), dtype=np.uint8)
    for i, pixels in enumerate(colors):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    dataset = fo.Dataset(persistent=True)
    add_images(dataset, rows, folder)
    return dataset


def add_images(dataset: Any, rows: int, folder: Path) -> list[str]:
    """Adds samples; returns their IDs.

    FiftyOne makes the first of them. The others are copies of these under IDs of their own, put
    into MongoDB directly: FiftyOne takes eight minutes for a million.
    """
    first = min(rows, _FIRST)
    samples = [fo.Sample(filepath=str(folder / f"{i % _FILES}.png")) for i in range(first)]
    ids: list[str] = dataset.add_samples(samples, progress=False)
    collection = dataset._sample_collection
    made = list(collection.find({"_id": {"$in": [ObjectId(i) for i in ids]}}))
    while len(ids) < rows:
        count = min(_BLOCK, rows - len(ids))
        copies = [copy.copy(made[i % first]) for i in range(count)]
        for document in copies:
            document["_id"] = ObjectId()
        collection.insert_many(copies, ordered=False)
        ids += [str(document["_id"]) for document in copies]
    return ids
