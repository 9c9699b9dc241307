"""Measures the recall and latency of an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.measuring import recall
from fiftyone_milvus.measuring.memory import index_size
from fiftyone_milvus.measuring.recall import Evaluation, Truth
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.search.planner import APPROXIMATE_MAX


class IndexEvaluation(IndexBase):
    """Compares what searches find with the true neighbors."""

    def evaluate(
        self, queries: int = 1000, k: int = 10, seed: int = 0, progress: Any = None
    ) -> Evaluation:
        """Measures the recall and the latency of searches in the whole index, as it is now.

        The queries are vectors of the index, drawn at random. Each is compared with all others.
        The true neighbors are computed from the vectors, which are read once; neighbors at the
        same distance are equally right.

        Example::

            print(index.evaluate())
            # recall@10 0.9987, at least 0.9969 with 95 % confidence, of 1000 queries, 2.1 ms...

        Args:
            queries (1000): how many vectors to search for, at most all
            k (10): how many neighbors of each, at most all others
            seed (0): of the draw
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, ``fiftyone.config.show_progress_bars`` decides

        Returns:
            a :class:`fiftyone_milvus.measuring.recall.Evaluation`

        Raises:
            InvalidInputError: if an argument can't be used, or the index has fewer than two vectors
        """
        k = check_approximate_k(k)
        ids, rows = self._draw("queries", queries, seed)
        k = min(k, len(ids) - 1)
        with self._vectors(ids, progress) as vectors:
            truth = Truth(vectors, ids, rows, k, progress=progress)
            # As stored: the vectors that were read for the truth may be normalized
            drawn = self._collection.fetch(truth.keys).vectors
            recalls, seconds = recall.measure(self._searcher, drawn, truth, progress=progress)
        layout = self._collection.layout
        exact = self._collection.is_scanned(self._collection.count())
        return Evaluation(
            recall=float(recalls.mean()),
            bound=1.0 if exact else recall.lower_bound(recalls),
            k=k,
            queries=len(rows),
            p50=float(np.median(seconds)),
            p95=float(np.percentile(seconds, 95)),
            vectors=len(ids),
            bytes=len(ids) * layout.dimension * 4,
            index_bytes=index_size(self._collection, len(ids)),
            index_type=layout.index_type,
            search_params=dict(self.config.search_params or {}),
        )

    def nearest_distances(self, sample: int = 10_000, seed: int = 0, progress: Any = None) -> Array:
        """Returns the exact distance of vectors of the index to their nearest neighbor.

        A histogram of these distances shows a good threshold for ``find_duplicates()``.

        Args:
            sample (10000): how many vectors to draw at random, at most all
            seed (0): of the draw
            progress (None): like that of :meth:`evaluate`

        Returns:
            a float64 array of ``min(sample, vectors in the index)`` distances

        Raises:
            InvalidInputError: if an argument can't be used, or the index has fewer than two vectors
        """
        ids, rows = self._draw("sample", sample, seed)
        with self._vectors(ids, progress) as vectors:
            _, distances = neighborhoods.nearest_others(vectors, rows, 1, progress=progress)
        return distances[:, 0]

    def _draw(self, name: str, count: Any, seed: Any) -> tuple[list[str], Array]:
        """Returns all primary keys, and the ascending positions of those that were drawn.

        Args:
            name: of the parameter that says how many to draw, for the error
            count: how many to draw, at most all
            seed: of the draw
        """
        count, seed = check_integer(name, count), check_integer("seed", seed, low=0)
        ids: list[str] = []
        if self._collection.present():
            # Until it is loaded, searches are answered from memory, which is not what is measured
            self._collection.wait_until_loaded()
            ids = self._collection.known_ids(with_samples=False)[0]
        if len(ids) < 2:
            raise InvalidInputError(
                f"This index has {len(ids)} vectors, and at least 2 are needed; add some with "
                "sync() or add_to_index()"
            )
        rng = np.random.default_rng(seed)
        return ids, np.sort(rng.choice(len(ids), min(count, len(ids)), replace=False))


def check_approximate_k(k: Any) -> int:
    """Returns a number of results that an approximate search can return, or raises."""
    number = check_integer("k", k)
    if number >= APPROXIMATE_MAX:
        raise InvalidInputError(
            f"Invalid k {number}; expected less than {APPROXIMATE_MAX}, as longer results are exact"
        )
    return number
