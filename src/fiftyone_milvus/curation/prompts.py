"""Labels from texts: the one whose text is nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors, nearest_others

TEMPERATURE = 0.01
"""That of CLIP's softmax: its logits are 100 times the cosine."""

_BLOCK = 8_192


def parse(prompts: Any) -> dict[str, str]:
    """Returns the text of each label.

    Args:
        prompts: a dict from labels to texts, or labels that are their own texts

    Raises:
        InvalidInputError: if it is something else, or has fewer than two labels
    """
    if isinstance(prompts, Sequence) and not isinstance(prompts, str):
        prompts = {label: label for label in prompts}
    if isinstance(prompts, Mapping) and len(prompts) > 1:
        pairs = {**prompts}
        if all(isinstance(t, str) and t.strip() for pair in pairs.items() for t in pair):
            return pairs
    raise InvalidInputError(
        f"Invalid prompts {shown(prompts)}; expected two labels or more, each with its text, such "
        "as {'cat': 'a photo of a cat', 'dog': 'a photo of a dog'}"
    )


def nearest_prompts(vectors: Vectors, count: int) -> tuple[Array, Array]:
    """Returns the nearest text of each vector.

    Args:
        vectors: those to label, then those of the texts
        count: how many are to be labeled

    Returns:
        the number of a text for each: an int64 array, and the softmax over the negative distances
        to all texts, divided by :data:`TEMPERATURE`: a float64 array
    """
    texts = np.arange(count, len(vectors))
    winners, confidences = np.empty(count, np.int64), np.empty(count)
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(count, start + _BLOCK))
        inds, distances = nearest_others(vectors, rows, len(texts), among=texts, progress=False)
        logits = (distances[:, :1] - distances) / TEMPERATURE
        winners[rows] = inds[:, 0] - count
        confidences[rows] = 1 / np.exp(logits).sum(axis=1)
    return winners, confidences
