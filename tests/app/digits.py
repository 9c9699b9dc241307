"""Handwritten digits, the vectors that their index must hold, and what a search must show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np

from fiftyone_milvus.demo import digits
from fiftyone_milvus.demo.model import NAME, DigitsModel
from tests.support import oracle

COUNT = 300
KEY = "similar"


@dataclass(frozen=True)
class Scans:
    """Images on disk, with the embeddings of ``digits-prompt``, which text can be compared to."""

    paths: list[str]
    labels: list[str]
    vectors: np.ndarray
    model: DigitsModel

    @classmethod
    def draw(cls, folder: Path, model: DigitsModel) -> Scans:
        everything, targets = digits.scans()
        images = [digits.draw(scan) for scan in everything[:COUNT]]
        paths = [str(folder / f"{i}.png") for i in range(COUNT)]
        for image, path in zip(images, paths, strict=True):
            image.save(path)
        vectors = model.embed_all([np.asarray(image) for image in images])
        return cls(paths, [digits.WORDS[t] for t in targets[:COUNT]], vectors, model)

    def dataset(self, name: str, count: int = COUNT) -> fo.Dataset:
        """Returns a new dataset of the first; a sample's ``number`` is its position here."""
        dataset = fo.Dataset(name)
        dataset.add_samples(
            [
                fo.Sample(filepath=path, number=i, ground_truth=fo.Classification(label=label))
                for i, path, label in zip(range(count), self.paths, self.labels, strict=False)
            ],
            progress=False,
        )
        dataset.compute_metadata(progress=False)
        return dataset

    def index(self, dataset: fo.Dataset, **kwargs: Any) -> Any:
        """Indexes all of a dataset under ``KEY``."""
        return fob.compute_similarity(
            dataset,
            backend="milvus",
            brain_key=KEY,
            embeddings=self.vectors,
            model=NAME,
            metric="cosine",
            **kwargs,
        )

    def distances(self, query: int | str, among: Iterable[int] | None = None) -> dict[int, float]:
        """Returns the distance of each number to a query: a number, or a text."""
        vector = self.model.embed_prompt(query) if isinstance(query, str) else self.vectors[query]
        values = oracle.distances("cosine", vector, self.vectors)[0]
        return {number: values[number] for number in (range(COUNT) if among is None else among)}

    def check(
        self, shown: Sequence[int], query: int | str, among: Iterable[int] | None = None
    ) -> None:
        """Fails unless the numbers are those of the 25 nearest among others, nearest first."""
        oracle.check_ranking(shown, self.distances(query, among), 25)
