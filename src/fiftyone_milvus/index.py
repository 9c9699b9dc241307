"""FiftyOne's contract of a similarity index, on a Milvus collection.

Says what; the modules it imports say how.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from fiftyone.brain.similarity import DuplicatesMixin, SimilarityIndex
from pymilvus import MilvusClient

from fiftyone_milvus import duplicates, parameters, scores, writing
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    ExistingIDsError,
    InvalidInputError,
    MissingIDsError,
)
from fiftyone_milvus.fresh import Rows
from fiftyone_milvus.ids import Ids
from fiftyone_milvus.scores import Array, Points
from fiftyone_milvus.searching import Neighbors, Searcher
from fiftyone_milvus.views import ViewScope

logger = logging.getLogger(__name__)

Aggregation = Callable[[Array], Array]

AGGREGATIONS: dict[str, Aggregation | None] = {
    "mean": None,  # of the query vectors, before the search
    "post-mean": lambda d: d.mean(axis=0),
    "post-min": lambda d: d.min(axis=0),
    "post-max": lambda d: d.max(axis=0),
    "min": lambda d: d.min(axis=0),
    "max": lambda d: d.max(axis=0),
}
"""How several queries become one ranking.

``"mean"`` averages the query vectors; the others combine each sample's distances to them. The names
with ``post-`` are those of FiftyOne's default backend.
"""


class MilvusSimilarityIndex(SimilarityIndex, DuplicatesMixin):
    """A similarity index whose vectors are in a Milvus collection.

    Made by :func:`fiftyone.brain.compute_similarity` and
    :meth:`load_brain_results() <fiftyone.core.collections.SampleCollection.load_brain_results>`.
    Connects on first use, not when loaded.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` of the run
        config: the :class:`fiftyone_milvus.backend.MilvusSimilarityConfig` of the run
        brain_key: the brain key, or None
        backend (None): a :class:`fiftyone_milvus.backend.MilvusSimilarity`
    """

    def __init__(
        self, samples: Any, config: Any, brain_key: str | None, backend: Any = None
    ) -> None:
        self._scope_cache: ViewScope | None = None
        self._id_table: tuple[list[str], list[str]] | None = None
        self._points: Points | None = None
        self._found: list[Neighbors] = []
        self._connection: Connection | None = None
        self._milvus: MilvusCollection | None = None
        SimilarityIndex.__init__(self, samples, config, brain_key, backend=backend)
        DuplicatesMixin.__init__(self)

    # -- Milvus --------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The pooled connection of this index."""
        if self._connection is None:
            self._connection = self.config.connect()
        return self._connection

    @property
    def client(self) -> MilvusClient:
        """The live ``pymilvus.MilvusClient`` of this index."""
        self._collection.wait_until_loaded()
        return self.connection.client

    @property
    def collection(self) -> Any:
        """The live ``pymilvus.Collection`` of this index, or None if there is none yet.

        It is part of pymilvus' ORM, which pymilvus 3.1 removes; :attr:`client` is not.
        """
        if not self._collection.present():
            return None
        self._collection.wait_until_loaded()
        return self.connection.collection(self.config.collection_name)

    @property
    def _collection(self) -> MilvusCollection:
        if self._milvus is None:
            config = self.config
            self._milvus = MilvusCollection(
                self.connection,
                config.collection_name,
                consistency_level=config.consistency_level,
                timeout=config.timeout,
                id_field=config.id_field,
                vector_field=config.vector_field,
            )
        return self._milvus

    @property
    def _lookup(self) -> Ids:
        return Ids(self._collection, self._samples._root_dataset, self.config.patches_field)

    @property
    def _searcher(self) -> Searcher:
        return Searcher(
            self._collection,
            self.config.metric,
            self.config.search_params,
            patches=self._patches,
        )

    @property
    def _patches(self) -> bool:
        return self.config.patches_field is not None

    @property
    def _owner(self) -> dict[str, Any]:
        dataset = self._samples._root_dataset
        return {
            "dataset": dataset.name,
            "dataset_id": str(dataset._doc.id),
            "brain_key": self.key,
            "patches_field": self.config.patches_field,
        }

    def adopt(self) -> None:
        """Checks that the existing collection can serve as this index, and opens it.

        Raises:
            CollectionMismatchError: if its fields or its metric are not this index's
        """
        config = self.config
        collection = self._collection
        metric_type = scores.metric_type(config.metric)
        index_type = config.index_type or parameters.default_index_type(self.connection.engine)
        collection.ensure_index(
            metric_type, index_type, parameters.build_params(index_type, config.index_params)
        )
        found = collection.layout.metric_type
        if found != metric_type:
            raise CollectionMismatchError(
                f"The {collection.where} is indexed for metric "
                f"'{scores.metric_of(str(found)) or found}', not '{config.metric}'; pass that "
                "metric, or use another collection_name"
            )
        self.connection.register_orm()

    def rename_owner(self, brain_key: str) -> None:
        """Records another brain key with the collection, if it is recorded as this run's."""
        collection = self._collection
        if collection.exists() and collection.layout.owner == self._owner:
            collection.set_owner({**self._owner, "brain_key": brain_key})

    # -- size and IDs --------------------------------------------------------------------------

    @property
    def total_index_size(self) -> int:
        """The exact number of vectors in the collection."""
        return self._collection.count(strong=True) if self._collection.present() else 0

    @property
    def index_size(self) -> int:
        """The number of vectors that are in the current view."""
        return len(self.current_sample_ids) if self.has_view else self.total_index_size

    @property
    def sample_ids(self) -> npt.NDArray[np.str_]:
        """The sample IDs of the full index."""
        return np.array(self._ids()[1], dtype=str)

    @property
    def label_ids(self) -> npt.NDArray[np.str_] | None:
        """The label IDs of the full index, or None if it holds no patches."""
        return np.array(self._ids()[0], dtype=str) if self._patches else None

    def _ids(self) -> tuple[list[str], list[str]]:
        return self._id_table or self._lookup.all()

    def _apply_view(self) -> None:
        # The base class asks for sample_ids and for label_ids, which is one read
        self._id_table = self._ids()
        try:
            super()._apply_view()
        finally:
            self._id_table = None

    def use_view(self, samples: Any, allow_missing: bool = True, warn_missing: bool = False) -> Any:
        """Restricts the index to a view; see the base class."""
        self._scope_cache = None
        self._points = None
        return super().use_view(samples, allow_missing=allow_missing, warn_missing=warn_missing)

    def _scope(self) -> ViewScope | None:
        """Returns what a search is restricted to, or None if to nothing."""
        if not self.has_view:
            return None
        if not self._curr_view_allow_missing or self._curr_view_warn_missing:
            self._apply_view_if_necessary()
        if self._scope_cache is None:
            self._scope_cache = ViewScope(self._curr_view, self.config.patches_field)
        return self._scope_cache

    # -- writing -------------------------------------------------------------------------------

    def add_to_index(
        self,
        embeddings: npt.ArrayLike,
        sample_ids: Sequence[str],
        label_ids: Sequence[str] | None = None,
        overwrite: bool = True,
        allow_existing: bool = True,
        warn_existing: bool = False,
        reload: bool = True,
    ) -> None:
        """Adds embeddings to the index; creates the collection if there is none.

        Everything is checked before anything is written. If writing to a new collection fails or
        is interrupted, the collection is dropped again; a call that failed midway on an existing
        one can be repeated.

        Args:
            embeddings: a ``num_embeddings x num_dims`` array
            sample_ids: ``num_embeddings`` sample IDs
            label_ids (None): ``num_embeddings`` label IDs, for patches
            overwrite (True): whether to replace (True) or ignore (False) existing embeddings of
                the same IDs
            allow_existing (True): whether to ignore (True) or raise an error (False) when an ID
                is in the index already
            warn_existing (False): whether to log a warning if IDs are in the index already
            reload (True): whether to call :meth:`reload` afterwards

        Raises:
            InvalidInputError: if IDs or embeddings can't be used
            ExistingIDsError: if IDs repeat, or exist and ``allow_existing`` is False
        """
        if self._patches and label_ids is None:
            raise InvalidInputError(
                f"This is an index of patches in '{self.config.patches_field}'; give label_ids too"
            )
        if not self._patches and label_ids is not None:
            raise InvalidInputError("This index does not support label IDs; give sample_ids only")
        collection = self._collection
        fresh = not collection.present()
        batch = writing.check(
            embeddings,
            sample_ids,
            label_ids,
            metric=self.config.metric,
            dimension=None if fresh else collection.layout.dimension,
        )
        if not fresh and (warn_existing or not allow_existing or not overwrite):
            existing = set(collection.existing(batch.ids))
            self._report_existing(existing, overwrite, allow_existing, warn_existing)
            if not overwrite:
                batch = batch.without(existing)
        if not len(batch):
            return
        if fresh:
            self._create(batch.vectors.shape[1])
        try:
            writing.upload(collection, batch, replace=not fresh)
        except BaseException:
            if fresh:
                collection.drop()
            raise
        if fresh:
            collection.keep_fresh(Rows(batch.ids, batch.sample_ids, batch.vectors))
        self.connection.register_orm()
        if reload:
            self.reload()

    def _create(self, dimension: int) -> None:
        config = self.config
        index_type = config.index_type or parameters.default_index_type(self.connection.engine)
        self._collection.create(
            dimension,
            scores.metric_type(config.metric),
            index_type,
            parameters.build_params(index_type, config.index_params),
            self._owner,
        )

    def _report_existing(
        self, existing: set[str], overwrite: bool, allow_existing: bool, warn_existing: bool
    ) -> None:
        if not existing:
            return
        if not allow_existing:
            raise ExistingIDsError(
                f"Found {len(existing)} IDs (eg '{min(existing)}') that already exist in the "
                "index; leave them out or pass allow_existing=True"
            )
        if warn_existing:
            logger.warning(
                "%s %d IDs that already exist in the index",
                "Overwriting" if overwrite else "Skipping",
                len(existing),
            )

    def remove_from_index(
        self,
        sample_ids: Sequence[str] | None = None,
        label_ids: Sequence[str] | None = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
        reload: bool = True,
    ) -> None:
        """Removes embeddings from the index.

        Args:
            sample_ids (None): sample IDs; of an index of patches, all patches of these samples
            label_ids (None): label IDs, for patches
            allow_missing (True): whether to ignore (True) or raise an error (False) when an ID is
                not in the index
            warn_missing (False): whether to log a warning if IDs are not in the index
            reload (True): whether to call :meth:`reload` afterwards

        Raises:
            MissingIDsError: if IDs are not in the index and ``allow_missing`` is False
        """
        ids, by_sample = self._lookup.given(sample_ids, label_ids)
        if ids is None:
            raise InvalidInputError("Nothing to remove; give sample_ids or label_ids")
        if by_sample or not allow_missing or warn_missing:
            ids = list(self._lookup.find(ids, by_sample, allow_missing, warn_missing))
        elif not self._collection.present():
            ids = []
        if ids:
            self._collection.delete(ids)
        if reload:
            self.reload()

    def cleanup(self) -> None:
        """Drops the collection, if it exists."""
        if self._collection.drop():
            logger.info("Dropped %s", self._collection.where)

    # -- reading -------------------------------------------------------------------------------

    def get_embeddings(
        self,
        sample_ids: Sequence[str] | None = None,
        label_ids: Sequence[str] | None = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
    ) -> tuple[Array, npt.NDArray[np.str_], npt.NDArray[np.str_] | None]:
        """Reads embeddings from the index, in the order of the given IDs.

        Args:
            sample_ids (None): a sample ID or a list of them; of an index of patches, all patches
                of these samples. By default, with no ``label_ids`` either, the whole index
            label_ids (None): a label ID or a list of them, for patches
            allow_missing (True): whether to ignore (True) or raise an error (False) when an ID is
                not in the index
            warn_missing (False): whether to log a warning if IDs are not in the index

        Returns:
            a tuple of

            -   a ``num_embeddings x num_dims`` float32 array
            -   a ``num_embeddings`` array of sample IDs
            -   a ``num_embeddings`` array of label IDs, or None if the index holds no patches

        Raises:
            MissingIDsError: if IDs are not in the index and ``allow_missing`` is False
        """
        ids, by_sample = self._lookup.given(sample_ids, label_ids)
        if ids is None:
            ids = self._ids()[0]
        elif by_sample or not allow_missing or warn_missing:
            ids = list(self._lookup.find(ids, by_sample, allow_missing, warn_missing))
        if not self._collection.present():
            empty = np.array([], dtype=str)
            return np.empty((0, 0), np.float32), empty, empty if self._patches else None
        rows = self._collection.fetch(ids)
        found, samples = self._lookup.with_samples(rows.ids, rows.sample_ids)
        labels = np.array(found, dtype=str) if self._patches else None
        return rows.vectors, np.array(samples, dtype=str), labels

    # -- searching -----------------------------------------------------------------------------

    def sort_by_similarity(
        self,
        query: Any,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str = "mean",
        dist_field: str | None = None,
        _mongo: bool = False,
    ) -> Any:
        """Returns a view of the samples or labels sorted by similarity; see the base class."""
        samples = self.view
        restricted = None
        if samples.media_type == "group" and not self.has_view:
            # The result shows the active slice only, so k of its samples must be found
            restricted = ViewScope(samples, self.config.patches_field)
        # The base class fails to store distances on labels that are in a list
        on_labels = dist_field if self._patches and not samples._is_patches else None
        with self._restricted(restricted):
            view = super().sort_by_similarity(
                query,
                k=k,
                reverse=reverse,
                aggregation=aggregation,
                dist_field=None if on_labels else dist_field,
                _mongo=_mongo,
            )
        if on_labels:
            self._store_on_labels(samples, on_labels, self._found[0])
        return view

    def _store_on_labels(self, samples: Any, dist_field: str, found: Neighbors) -> None:
        _, path = samples._get_label_field_path(self.config.patches_field, dist_field)
        ids, sample_ids = self._lookup.with_samples(found.ids, found.sample_ids)
        values = [
            {"sample_id": sample_id, "label_id": label_id, "value": distance}
            for sample_id, label_id, distance in zip(sample_ids, ids, found.distances.tolist())
        ]
        samples._root_dataset.set_label_values(path, values, dynamic=True)

    @contextmanager
    def _restricted(self, scope: ViewScope | None) -> Iterator[None]:
        self._forced_scope = scope
        try:
            yield
        finally:
            self._forced_scope = None

    _forced_scope: ViewScope | None = None

    def _kneighbors(
        self,
        query: Any = None,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str | None = None,
        return_dists: bool = False,
    ) -> Any:
        _check_k(k)
        if query is None:
            if aggregation is not None:
                raise InvalidInputError("Full index queries do not support aggregation")
            if reverse:
                raise InvalidInputError("Full index queries do not support reverse=True")
            inds, dists = duplicates.nearest(self._current_points(), k)
            return (inds, dists) if return_dists else inds

        if aggregation is not None and aggregation not in AGGREGATIONS:
            raise InvalidInputError(
                f"Unsupported aggregation {aggregation!r}; expected one of {tuple(AGGREGATIONS)}"
            )
        vectors, single = self._parse_vectors(query)
        scope = self._forced_scope or self._scope()
        searcher = self._searcher
        combine = AGGREGATIONS[aggregation] if aggregation is not None else None
        if combine is not None and len(vectors) > 1:
            found = [searcher.ranked(vectors, combine, k, scope, reverse=reverse)]
        else:
            if aggregation is not None and len(vectors) > 1:
                vectors = vectors.mean(axis=0, keepdims=True)
                writing.check_values(vectors, self.config.metric)
            search = searcher.farthest if reverse else searcher.nearest
            found = search(vectors, k, scope)
        return self._format(found, single or aggregation is not None, return_dists)

    def _radius_neighbors(
        self, query: Any = None, thresh: float | None = None, return_dists: bool = False
    ) -> Any:
        thresh = _check_thresh(thresh)
        if query is None:
            inds, dists = duplicates.within(self._current_points(), thresh)
            return (inds, dists) if return_dists else inds
        vectors, single = self._parse_vectors(query)
        found = [
            n.where(n.distances <= thresh)
            for n in self._searcher.nearest(vectors, None, self._scope())
        ]
        return self._format(found, single, return_dists)

    def _parse_vectors(self, query: Any) -> tuple[Array, bool]:
        """Returns the query vectors, and whether the query was a single ID or vector."""
        collection = self._collection
        if isinstance(query, str):
            ids, single = [query], True
        else:
            values = np.asarray(query)
            if np.issubdtype(values.dtype, np.number):
                single = values.ndim == 1
                vectors = writing.as_vectors(values[None, :] if single else values, "queries")
                writing.check_dimension(vectors.shape[1], collection.layout.dimension)
                writing.check_values(vectors, self.config.metric)
                return vectors, single
            ids, single = [str(v) for v in values.ravel()], False
        rows = collection.fetch(list(dict.fromkeys(ids)))
        table = dict(zip(rows.ids, rows.vectors))
        missing = [i for i in ids if i not in table]
        if missing:
            raise MissingIDsError(
                f"Query IDs {missing[:5]} do not exist in this index; add their embeddings with "
                "add_to_index() first"
            )
        return np.stack([table[i] for i in ids]), single

    def _format(self, found: list[Neighbors], single: bool, return_dists: bool) -> Any:
        self._found = found if len(found) == 1 else []
        pairs = [self._lookup.with_samples(n.ids, n.sample_ids) for n in found]
        samples: Any = [samples for _, samples in pairs]
        labels: Any = [ids for ids, _ in pairs] if self._patches else None
        dists: Any = [n.distances.tolist() for n in found]
        if single:
            samples, dists = samples[0], dists[0]
            labels = labels[0] if labels is not None else None
        return (samples, labels, dists) if return_dists else (samples, labels)

    # -- duplicates ----------------------------------------------------------------------------

    def find_duplicates(self, thresh: float | None = None, fraction: float | None = None) -> None:
        """Finds near-duplicates by distance or by fraction; see the base class."""
        if thresh is None and fraction is None:
            raise InvalidInputError("Nothing to look for; give thresh or fraction")
        with self._points_once():
            super().find_duplicates(thresh=thresh, fraction=fraction)

    def find_unique(self, count: int) -> None:
        """Finds the given number of maximally unique samples; see the base class."""
        with self._points_once():
            super().find_unique(count)

    def _remove_duplicates_thresh(self, thresh: float, ids: Sequence[str]) -> list[str]:
        return [ids[i] for i in duplicates.unique(self._current_points(), _check_thresh(thresh))]

    @contextmanager
    def _points_once(self) -> Iterator[None]:
        """Reads the vectors once for a search of the threshold, which tries many."""
        self._points = None
        self._points = self._current_points()
        try:
            yield
        finally:
            self._points = None

    def _current_points(self) -> Points:
        """Returns the vectors of the current IDs, in their order."""
        if self._points is not None:
            return self._points
        ids = self.current_label_ids if self._patches else self.current_sample_ids
        vectors = (
            self._collection.fetch([str(i) for i in ids]).vectors
            if len(ids)
            else np.empty((0, 1), np.float32)
        )
        return Points(vectors, self.config.metric)

    # -- FiftyOne's serialization --------------------------------------------------------------

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, brain_key: str
    ) -> MilvusSimilarityIndex:
        return cls(samples, config, brain_key)


def _check_k(k: Any) -> None:
    if k is not None and (isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1):
        raise InvalidInputError(f"Invalid k {k!r}; expected an integer above 0, or None for all")


def _check_thresh(thresh: Any) -> float:
    try:
        value = float(thresh)
    except (TypeError, ValueError):
        raise InvalidInputError(f"Invalid thresh {thresh!r}; expected a distance") from None
    if np.isnan(value):
        raise InvalidInputError("Invalid thresh nan; expected a distance")
    return value
