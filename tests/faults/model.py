"""A model whose embeddings are known, and a dataset of real images for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
from PIL import Image

#: Large vectors, so that few samples are many requests.
DIM = 4096
FILES = 64
KEY = "faults"


def truth(number: int) -> np.ndarray:
    """The embedding of an image, from its number alone."""
    return np.random.default_rng(number).normal(size=DIM).astype(np.float32)


_TRUTH = np.stack([truth(number) for number in range(FILES)])


class Slow(fom.Model):
    """Takes its time, and does what it is told to when it has seen so many images.

    Args:
        seconds: per image
        events: what to do, by the number of images before
        without: the numbers of images that it has no embedding of
    """

    media_type = "image"
    has_embeddings = True
    can_embed_prompts = False
    ragged_batches = False
    transforms = None
    preprocess = False

    def __init__(
        self,
        seconds: float = 0.0005,
        events: dict[int, Callable[[], object]] | None = None,
        without: set[int] | None = None,
    ) -> None:
        self.seconds = seconds
        self.events = events or {}
        self.without = without or set()
        self.images = 0

    def predict(self, arg: Any) -> None:
        raise NotImplementedError

    def embed(self, arg: Any) -> np.ndarray:
        return self.embed_all([arg])[0]

    def embed_all(self, args: Any) -> np.ndarray:
        numbers = []
        for image in args:
            if (event := self.events.pop(self.images, None)) is not None:
                event()
            self.images += 1
            numbers.append(int(np.asarray(image)[0, 0, 0]))
        time.sleep(self.seconds * len(numbers))
        found = _TRUTH[numbers]
        found[np.isin(numbers, list(self.without))] = np.nan
        return found


def make_files(folder: Path) -> list[str]:
    """Writes one small image for each number."""
    files = [str(folder / f"{number:03d}.png") for number in range(FILES)]
    for number, file in enumerate(files):
        Image.new("RGB", (4, 4), (number, 100, 7)).save(file)
    return files


def make_dataset(name: str, files: list[str], count: int) -> fo.Dataset:
    """A dataset of so many samples, which share the files."""
    # Processes that only use the model need none of this
    from tests.support.indexes import add_samples

    dataset = fo.Dataset(name)
    numbers = [i * 7 % FILES for i in range(count)]
    add_samples(dataset, [{"filepath": files[n], "number": n} for n in numbers])
    return dataset
