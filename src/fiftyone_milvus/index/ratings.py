"""Uniqueness and representativeness of samples or patches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fiftyone_milvus.curation.ratings import Ratings
from fiftyone_milvus.curation.representativeness import CLUSTERS, SEED, representativeness
from fiftyone_milvus.curation.uniqueness import uniqueness
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index.existing import IndexExisting
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.numbers import check_integer

logger = logging.getLogger(__name__)


class IndexRatings(IndexExisting):
    """Says how unique, and how representative, each sample or patch is."""

    def compute_uniqueness(self, *, progress: Any = None) -> Ratings:
        """Says how far each sample, or patch, is from its nearest neighbors.

        Of the current :meth:`view`. As :func:`fiftyone.brain.compute_uniqueness`: the distances to
        the three nearest others, weighted .6, .3 and .1, divided by the largest of all. Exact, from
        one read of the vectors. Nothing is written until you call
        :meth:`~fiftyone_milvus.curation.ratings.Ratings.save`.

        Example::

            found = index.compute_uniqueness()
            session.view = found.view(100)  # the most unique
            found.save()  # the field `uniqueness`; for patches, an attribute of the labels

        Args:
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.ratings.Ratings`

        Raises:
            InvalidInputError: if the metric is ``dotproduct``, whose distances may be below 0
        """
        if self.config.metric == "dotproduct":
            raise InvalidInputError(
                f"Index '{self.key}' has metric 'dotproduct', whose distances may be below 0; "
                "uniqueness needs an index with metric 'cosine' or 'euclidean'"
            )
        return self._rated("uniqueness", lambda points: uniqueness(points, progress), progress)

    def compute_representativeness(
        self, *, clusters: int = CLUSTERS, seed: int = SEED, progress: Any = None
    ) -> Ratings:
        """Says how close each sample, or patch, is to the center of its cluster.

        Of the current :meth:`view`. 1 is at the center, 0 the farthest of its cluster. The clusters
        are those of :func:`fiftyone.brain.compute_representativeness`, whose numbers are 1 less
        these: it gives the largest to what is farthest from the center. Distances are Euclidean,
        also with metric ``dotproduct``; with ``cosine``, of vectors that are scaled to length one.
        Nothing is written until you call :meth:`~fiftyone_milvus.curation.ratings.Ratings.save`.

        Args:
            clusters (20): the number of clusters of k-means; fewer if there are fewer vectors. Of
                more than 50,000 vectors, so many are drawn to learn the centers
            seed (1234): of the first centers, and of what is drawn; by default FiftyOne's
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.ratings.Ratings`

        Raises:
            InvalidInputError: if an argument can't be used
        """
        clusters = check_integer("clusters", clusters)
        seed = check_integer("seed", seed, low=0, high=2**32 - 1)

        def rate(points: Vectors) -> Array:
            return representativeness(points, clusters, seed)

        return self._rated("representativeness", rate, progress)

    def _rated(self, name: str, rate: Callable[[Vectors], Array], progress: Any) -> Ratings:
        start = time.monotonic()
        ids, stale, no_embedding = self._existing()
        with self._vectors(ids, progress) as points:
            result = Ratings.of(
                name,
                ids,
                rate(points),
                no_embedding=no_embedding,
                stale=stale,
                _dataset=self._samples._root_dataset,
                _patches_field=self.config.patches_field,
            )
        logger.info("%s, in %.1f s", result, time.monotonic() - start)
        return result
