"""Samples of another dataset that were added to this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from fiftyone_milvus.metrics import Array


@dataclass(frozen=True)
class Imported:
    """What was added.

    Attributes:
        ids: of the new samples, the most similar first
        distances: of each to what was searched for: a float64 array
        known: how many that were found were not added, as this dataset has their files
    """

    ids: list[str]
    distances: Array
    known: int
    _dataset: Any

    def view(self) -> Any:
        """Returns a view of the new samples, the most similar first."""
        return self._dataset.select(self.ids, ordered=True)

    def __str__(self) -> str:
        text = f"{len(self.ids):,} samples were added"
        return text + (f"; {self.known:,} were there already" if self.known else "")


def copies(
    samples: Sequence[Any], dataset: Any, field: str, distances: Sequence[float]
) -> list[fo.Sample]:
    """Returns new samples with the files, tags and metadata of others, and where they are from.

    Args:
        samples: of the other dataset
        dataset: the other dataset
        field: the name of the field with ``dataset``, ``sample_id`` and ``distance``
        distances: one for each sample
    """
    return [
        fo.Sample(
            sample.filepath,
            tags=list(sample.tags),
            metadata=None if sample.metadata is None else sample.metadata.copy(),
            **{
                field: fo.DynamicEmbeddedDocument(
                    dataset=dataset.name, sample_id=sample.id, distance=float(distance)
                )
            },
        )
        for sample, distance in zip(samples, distances, strict=True)
    ]
