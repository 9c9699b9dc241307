"""Groups of near-duplicates, leaks between parts of the data, and duplicates of what is new."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import numpy as np

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.curation import copies, group_field, grouping, groups, keeping, leaks
from fiftyone_milvus.curation.arrivals import Arrival
from fiftyone_milvus.curation.groups import Groups
from fiftyone_milvus.curation.leaks import Leaks
from fiftyone_milvus.dataset.media_paths import paths
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index.existing import IndexExisting
from fiftyone_milvus.index.queries import IndexQueries
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.numbers import check_distance, check_flag

logger = logging.getLogger(__name__)


class IndexGroups(IndexExisting, IndexQueries):
    """Finds groups of near-duplicates."""

    def find_groups(
        self, thresh: float, keep: str = "central", *, files: bool = False, progress: Any = None
    ) -> Groups:
        """Finds groups of near-duplicates in which every two are within a distance.

        ``find_duplicates()`` compares each sample with the one that is kept, so two others of a
        group may be twice as far apart. Here, groups are joined by complete linkage: the two
        closest first, as long as all their members are within ``thresh`` of each other. So none of
        the groups, and no single sample, could be joined with another. Exact, from one read of the
        vectors, of the current :meth:`view`. Nothing is written until you call
        :meth:`~fiftyone_milvus.curation.groups.Groups.save`.

        Example::

            groups = index.find_groups(0.03, keep="sharpest")
            session.view = groups.view(1)
            groups.save()  # to the field `duplicates`, which the App's review shows

        Args:
            thresh: the largest distance of two in a group, inclusive
            keep ("central"): which one of a group is kept: ``"central"``, the one with the smallest
                mean distance to the others; ``"first"`` in the index; ``"sharpest"``, by the
                variance of the Laplacian; ``"largest"``, in pixels; ``"oldest"``, by EXIF date;
                ``"oldest:FIELD"``, by a field of dates or numbers; or ``"tag:NAME"``, one with that
                tag. Where this decides nothing, the most central one is kept, then the first
            files (False): whether to put samples whose files have the same bytes into one group,
                whatever their embeddings. Reads the files that have the same size
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.groups.Groups`

        Raises:
            InvalidInputError: if an argument can't be used, or more than 16 million pairs are
                within the distance
        """
        thresh, rule = check_distance(thresh), keeping.parse(keep)
        files = check_flag("files", files)
        dataset, field = self._samples._root_dataset, self.config.patches_field
        if files and self._patches:
            raise InvalidInputError(
                f"Patches in '{field}' are parts of files, which can't be compared; leave files out"
            )
        if rule.field is not None:
            keeping.check_field(dataset, rule.field)
        start = time.monotonic()
        ids, stale, _ = self._existing()
        same: list[Array] = []
        unread = 0
        if files:
            found = paths(dataset, ids)
            same, unread = copies.same_files([found.get(i, "") for i in ids], progress)
        with self._vectors(ids, progress) as points:
            result = groups.ranked(
                points,
                grouping.grouped(points, thresh, same),
                ids,
                rule,
                same,
                dataset,
                field,
                thresh=thresh,
                unread_files=unread,
                stale=stale,
                _brain_key=self.key,
            )
        logger.info("Found %s in %.1f s", result, time.monotonic() - start)
        return result

    def find_leaks(
        self, samples: Any, others: Any, thresh: float, *, progress: Any = None
    ) -> Leaks:
        """Finds what is in one part of the data and nearly in another, such as train and test.

        Example::

            train, test = dataset.match_tags("train"), dataset.match_tags("test")
            leaks = index.find_leaks(test, train, 0.03)
            leaks.view().tag_samples("leak")

        Args:
            samples: a view of the dataset
            others: a view of the dataset that shares no sample with it; or another index, of which
                the current view is compared
            thresh: the largest distance of a pair, inclusive
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.leaks.Leaks`

        Raises:
            InvalidInputError: if an argument can't be used, the views share samples, the indexes
                have other metrics, dimensions or models, or more than 16 million pairs are within
                the distance
        """
        thresh = check_distance(thresh)
        start = time.monotonic()
        own, other = self._restricted(samples), self._other(others)
        (ids, stale, _), (other_ids, other_stale, _) = own._existing(), other._existing()
        self._check_apart(ids, other, other_ids)
        with own._with_others(ids, other, other_ids, progress) as points:
            one, two, apart = leaks.pairs_across(points, len(ids), thresh)
        places = tuple(
            (index._samples._root_dataset, index.config.patches_field) for index in (own, other)
        )
        result = Leaks(
            thresh,
            [ids[i] for i in one],
            [other_ids[i] for i in two],
            np.asarray(apart),
            (len(ids), len(other_ids)),
            stale + other_stale,
            places,
        )
        logger.info("Found %s in %.1f s", result, time.monotonic() - start)
        return result

    def check_new(self, query: Any, thresh: float) -> Arrival:
        """Finds what a new image is nearly the same as, before it is added.

        Example::

            arrival = index.check_new("inbox/photo.jpg", 0.03)
            if arrival.is_new:
                dataset.add_sample(fo.Sample("inbox/photo.jpg"))

        Args:
            query: one image or vector; see :meth:`search`
            thresh: the largest distance, inclusive

        Returns:
            the :class:`fiftyone_milvus.curation.arrivals.Arrival`

        Raises:
            InvalidInputError: if an argument can't be used, or ``query`` is more than one
        """
        thresh = check_distance(thresh)
        vectors = self._asked(query)
        if len(vectors) != 1:
            raise InvalidInputError(
                f"Got {len(vectors)} queries; expected one image or vector, so call it for each"
            )
        found = self.search(vectors, max_distance=thresh)
        dataset, field = self._samples._root_dataset, self.config.patches_field
        ids = [str(i) for i in found.ids]
        joins: list[int] = []
        path, info = group_field.stored(dataset)
        if ids and path is not None and info["brain_key"] == self.key:
            near = [str(i) for i in found.sample_ids]
            numbers = group_field.groups_of(dataset, path, field, ids, near)
            rows = group_field.members(
                dataset, path, field, [f"{group_field.FIELD}.group"], numbers
            )
            outside = {n for i, _, n in zip(*rows, strict=True) if i not in set(ids)}
            joins = [n for n in numbers if n not in outside]
        return Arrival(thresh, ids, np.asarray(found.distances), joins, (dataset, field))

    def _other(self, others: Any) -> Any:
        """Returns what this index is compared with: another one, or this one in another view."""
        if not isinstance(others, IndexGroups):
            return self._restricted(others)
        self._check_comparable(others)
        return others

    def _check_apart(self, ids: list[str], other: Any, other_ids: list[str]) -> None:
        """Raises InvalidInputError if some samples are in both of two parts."""
        if other.config.collection_name == self.config.collection_name and (
            both := set(ids) & set(other_ids)
        ):
            raise InvalidInputError(
                f"{len(both):,} of the samples, such as '{min(both)}', are in both parts; pass "
                "views that share none"
            )

    def _with_others(
        self, ids: list[str], other: Any, other_ids: list[str], progress: Any
    ) -> Vectors:
        """Reads vectors of this index, followed by those of another one."""
        count = len(ids) + len(other_ids)
        dim = self._collection.layout.dimension if count else 1
        points = Vectors(count, dim, self.config.metric)
        for at, index, keys in ((0, self, ids), (len(ids), other, other_ids)):
            if keys:
                neighborhoods.read_into(points, at, index._collection, keys, progress=progress)
        return points

    def _restricted(self, samples: Any) -> Any:
        """Returns a copy of this index that is restricted to a view.

        All callers of a process share one loaded index, whose view and duplicates are its
        attributes: a search in the App must not change those of a notebook.
        """
        own = copy.copy(self)
        own.use_view(samples)
        return own

    def _check_comparable(self, other: Any) -> None:
        """Raises InvalidInputError unless the embeddings of another index are of the same space."""
        ours = self.config, self._collection.layout.dimension
        theirs = other.config, other._collection.layout.dimension
        names = "metric", "dimension", "model"
        facts = [(config.metric, dimension, config.model) for config, dimension in (ours, theirs)]
        for name, mine, its in zip(names, *facts, strict=True):
            if mine is not None and its is not None and mine != its:
                raise InvalidInputError(
                    f"The {name} of index '{other.key}' is {its!r}, and that of '{self.key}' is "
                    f"{mine!r}; pass an index of the same {name}"
                )
