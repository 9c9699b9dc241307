"""Near-duplicates and unique samples of an index."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_distance, check_fraction, check_integer

logger = logging.getLogger(__name__)


class IndexDuplicates(IndexBase):
    """Comparisons of the samples of an index with each other."""

    def find_duplicates(self, thresh: float | None = None, fraction: float | None = None) -> None:
        """Finds near-duplicates by distance or by fraction; see the base class.

        Exact, from one read of the vectors. Of a group of duplicates, the sample that comes first
        in the index is kept as the unique one.

        Args:
            thresh (None): the distance within which samples are duplicates
            fraction (None): the fraction of duplicates to find, in ``[0, 1]``. The distance is
                adjusted until it finds that many, starting from ``thresh`` if given

        Raises:
            InvalidInputError: if neither is given, one is not a number, or ``fraction`` is
                not in ``[0, 1]``
        """
        if thresh is None and fraction is None:
            raise InvalidInputError("Nothing to look for; pass thresh or fraction")
        if thresh is not None:
            thresh = check_distance(thresh)
        share = None if fraction is None else check_fraction(fraction)
        start = time.monotonic()
        ids = self._current_ids()
        with self._vectors(ids) as points:
            pairs = None
            if share is not None:
                count = round((1.0 - share) * len(ids))
                kept, thresh, pairs = neighborhoods.keep_count(points, count, thresh)
            elif pairs := neighborhoods.pairs_within(points, check_distance(thresh)):
                kept = neighborhoods.first_of_pairs(len(ids), pairs)
            else:
                kept, _ = neighborhoods.Greedy(points).keep(check_distance(thresh), show=True)
            duplicates = np.setdiff1d(np.arange(len(ids)), kept)
            groups = neighborhoods.grouped(points, kept, duplicates, ids, pairs)
        self._set_unique(ids, kept, thresh, groups)
        self._log("near-duplicates", len(duplicates), len(ids), "within", start)

    def find_unique(self, count: int) -> None:
        """Finds the given number of maximally unique samples; see the base class.

        Args:
            count: the number of unique samples to find, at least 1; more than there are find all

        Raises:
            InvalidInputError: if ``count`` is not an integer above 0
        """
        count = check_integer("count", count)
        start = time.monotonic()
        ids = self._current_ids()
        with self._vectors(ids) as points:
            kept, thresh, _ = neighborhoods.keep_count(points, count)
            # Those at one distance are all kept, which may be more than were asked for
            kept = kept[:count]
        self._set_unique(ids, kept, thresh, None)
        self._log("unique", len(kept), len(ids), "more than", start)

    def _log(self, what: str, count: int, total: int, how: str, start: float) -> None:
        logger.info(
            "Found %d %s of %d %s%s in %.1f s",
            count,
            what,
            total,
            "patches" if self._patches else "samples",
            "" if self._thresh is None else f", {how} {self._thresh:.4g} apart",
            time.monotonic() - start,
        )

    def _by_uniqueness(self, found: list[str]) -> list[str]:
        """Returns primary keys in another order: those with the farthest neighbors first."""
        ids = self._current_ids()
        positions = {i: position for position, i in enumerate(ids)}
        rows = np.array(sorted(positions[i] for i in found), dtype=np.int64)
        if len(rows) < 2:
            return found
        with self._vectors(ids) as points:
            _, distances = neighborhoods.nearest_others(points, rows, 1)
        order = np.argsort(-distances[:, 0], kind="stable")
        return [ids[i] for i in rows[order]]

    def _set_unique(self, ids: list[str], kept: Array, thresh: float | None, groups: Any) -> None:
        self._thresh = thresh
        self._unique_ids = [ids[i] for i in kept]
        self._duplicate_ids = [ids[i] for i in np.setdiff1d(np.arange(len(ids)), kept)]
        self._neighbors_map = groups
