"""An index is measured against itself."""

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
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.search.planner import APPROXIMATE_MAX


class Evaluating(IndexBase):
    """What an index finds of what it holds."""

    def evaluate(
        self, queries: int = 1000, k: int = 10, seed: int = 0, progress: Any = None
    ) -> Evaluation:
        """Measures the recall and the latency of searches in the whole index, as it is now.

        The queries are vectors of the index, drawn at random; each looks for its neighbors among
        the others, of the whole index. The truth is computed from the vectors, which are read once.
        Equally near ones are equally right.

        Example::

            print(index.evaluate())  # recall@10 0.9987 of 1000 queries, 2.1 ms (p95 3.0 ms) each...

        Args:
            queries (1000): how many vectors to search for; all, if there are fewer
            k (10): how many neighbors of each; all others, if there are fewer
            seed (0): of the draw
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, as ``fiftyone.config.show_progress_bars`` says

        Returns:
            a :class:`fiftyone_milvus.measuring.recall.Evaluation`

        Raises:
            InvalidInputError: if an argument can't be used, or there are no two vectors
        """
        check_few(k)
        ids, rows = self._draw("queries", queries, seed)
        k = min(int(k), len(ids) - 1)
        with self._vectors(ids, progress) as vectors:
            truth = Truth(vectors, ids, rows, k, progress=progress)
            # Not the normalized ones
            drawn = self._collection.fetch(truth.keys).vectors
            found, seconds = recall.measure(self._searcher, drawn, truth, progress=progress)
        size = len(ids)
        layout = self._collection.layout
        return Evaluation(
            recall=found,
            k=k,
            queries=len(rows),
            p50=float(np.median(seconds)),
            p95=float(np.percentile(seconds, 95)),
            vectors=size,
            bytes=size * layout.dimension * 4,
            index_bytes=index_size(self._collection, size),
            index_type=layout.index_type,
            search_params=dict(self.config.search_params or {}),
        )

    def nearest_distances(self, sample: int = 10_000, seed: int = 0, progress: Any = None) -> Array:
        """Returns how far vectors of the index are from the nearest other one, exactly.

        A histogram of it shows where near-duplicates end, which is what the threshold of
        ``find_duplicates()`` is about.

        Args:
            sample (10000): how many vectors to draw at random; all, if there are fewer
            seed (0): of the draw
            progress (None): as for :meth:`evaluate`

        Returns:
            a float64 array of ``min(sample, vectors in the index)`` distances

        Raises:
            InvalidInputError: if ``sample`` can't be used, or there are no two vectors
        """
        ids, rows = self._draw("sample", sample, seed)
        with self._vectors(ids, progress) as vectors:
            _, distances = neighborhoods.nearest_others(vectors, rows, 1, progress=progress)
        return distances[:, 0]

    def _vectors(self, ids: list[str], progress: Any) -> Vectors:
        return neighborhoods.read(self._collection, ids, self.config.metric, progress=progress)

    def _draw(self, name: str, count: Any, seed: Any) -> tuple[list[str], Array]:
        """Returns all keys, and which of them were drawn at random, ascending."""
        check_count(name, count)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InvalidInputError(f"Invalid seed {seed!r}; expected an integer of at least 0")
        ids: list[str] = []
        if self._collection.present():
            # What this process has just uploaded would be searched here instead
            self._collection.wait_until_loaded()
            ids = self._collection.all_ids(with_samples=False)[0]
        if len(ids) < 2:
            raise InvalidInputError(
                f"There are {len(ids)} vectors in this index, too few to compare; add some with "
                "sync() or add_to_index()"
            )
        rng = np.random.default_rng(seed)
        return ids, np.sort(rng.choice(len(ids), min(count, len(ids)), replace=False))


def check_few(k: Any) -> None:
    """Raises if ``k`` is no number of results that an approximate index is asked for."""
    check_count("k", k)
    if k >= APPROXIMATE_MAX:
        raise InvalidInputError(
            f"Invalid k {k}; expected less than {APPROXIMATE_MAX}: longer answers are exact"
        )


def check_count(name: str, value: Any) -> None:
    """Raises if a value is no integer above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidInputError(f"Invalid {name} {value!r}; expected an integer above 0")
