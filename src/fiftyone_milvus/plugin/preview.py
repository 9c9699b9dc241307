"""How many samples have a neighbor within a distance, before anyone looks for them all."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import as_number

SAMPLE = 1000
"""Vectors whose nearest other one is looked for: a share of 5 % is known to within 0.7 %."""

AT_ONCE = 20_000
"""Vectors of an index whose preview a form shows unasked; those of a larger one take long to read.
"""

_SUGGESTED = 5
_KEPT = 16


@dataclass(frozen=True)
class Preview:
    """How far vectors are from their nearest other.

    Attributes:
        distances: an ascending float64 array, of a sample of the vectors
        vectors: how many vectors there are in all
    """

    distances: Array
    vectors: int

    @property
    def suggestion(self) -> float:
        """A distance within which 5 % have a neighbor, to three digits."""
        return float(f"{np.percentile(self.distances, _SUGGESTED):.3g}")

    def count(self, thresh: float) -> int:
        """Returns how many vectors have another within a distance: exact if all were looked at."""
        share = np.searchsorted(self.distances, thresh, side="right") / len(self.distances)
        return round(float(share) * self.vectors)

    def markdown(self, thresh: Any) -> str:
        """Returns a table of counts, of the distance that is chosen and of others."""
        about = "" if len(self.distances) == self.vectors else "about "
        rows = ["| within | have a neighbor |", "| --- | --- |"]
        if as_number(thresh) is not None:
            rows.append(f"| **{thresh:.3g}** | **{about}{self._share(thresh)}** |")
        others = np.percentile(self.distances, (1, 5, 10, 25, 50)).tolist()
        rows += [f"| {value:.3g} | {about}{self._share(value)} |" for value in others]
        return "\n".join(rows)

    def _share(self, thresh: float) -> str:
        return f"{self.count(thresh):,} of {self.vectors:,}"


_known: dict[tuple[str, str, str, int], Preview] = {}
_lock = threading.Lock()


def size_of(dataset: Any, key: str) -> int:
    """Returns how many vectors an index has.

    Raises:
        FiftyOneMilvusError: if Milvus does not answer
    """
    return open_index(dataset, key).total_index_size


def of(dataset: Any, key: str) -> Preview:
    """Returns the preview of an index; computed once for as long as its size stays the same.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        key: the brain key

    Raises:
        FiftyOneMilvusError: if Milvus does not answer, or there are no two vectors
    """
    index = open_index(dataset, key)
    size = index.total_index_size
    name = (str(dataset._doc.id), key, str(index.config.collection_name), size)
    # A form is drawn at each keystroke: the first computes, the others wait for it
    with _lock:
        if name in _known:
            return _known[name]
        found = Preview(np.sort(index.nearest_distances(SAMPLE, progress=False)), size)
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        _known[name] = found
    return found
