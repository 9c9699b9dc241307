"""The files of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiftyone_milvus.dataset.selected import all_samples

_SELECTED = 100_000
"""IDs in one pipeline, which MongoDB limits to 16 MB."""


def paths(samples: Any, sample_ids: Sequence[str]) -> dict[str, str]:
    """Returns the path of the file of each sample, by its ID.

    Args:
        samples: a dataset or view
        sample_ids: the samples of the dataset to look up; IDs that do not exist are left out
    """
    if not sample_ids:
        return {}
    dataset = all_samples(samples._root_dataset)
    unique = list(dict.fromkeys(sample_ids))
    found: dict[str, str] = {}
    for start in range(0, len(unique), _SELECTED):
        part = dataset.select(unique[start : start + _SELECTED])
        found.update(zip(*part.values(["id", "filepath"])))
    return found
