"""The state of an index: its connection, its collection and its current view."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import fiftyone.core.collections as foc
import numpy as np
import numpy.typing as npt
from fiftyone.brain.similarity import DuplicatesMixin, SimilarityIndex
from pymilvus import MilvusClient

from fiftyone_milvus import metrics, neighborhoods
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.dataset import internals
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.dataset.kept_ids import KEPT
from fiftyone_milvus.dataset.users import User, users
from fiftyone_milvus.errors import CollectionMismatchError, InvalidInputError, shown
from fiftyone_milvus.fields.store import SyncedFields
from fiftyone_milvus.fields.translate import translate
from fiftyone_milvus.index import asked
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.numbers import check_flag
from fiftyone_milvus.schema import index_types, scale
from fiftyone_milvus.schema.columns import Column
from fiftyone_milvus.schema.layout import Layout
from fiftyone_milvus.search import queries
from fiftyone_milvus.search.ids import Ids
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.planner import Searcher, Trace
from fiftyone_milvus.search.views import ViewFacts, ViewScope
from fiftyone_milvus.writing import arrays

_SHARED_SECONDS = 60.0
_LONG_EXPRESSION = 50_000
"""The most characters of an expression; Milvus parses it again for each request."""


class IndexBase(SimilarityIndex, DuplicatesMixin):
    """What the parts of :class:`fiftyone_milvus.index.MilvusSimilarityIndex` share."""

    def __init__(
        self, samples: Any, config: Any, brain_key: str | None, backend: Any = None
    ) -> None:
        self._scope_cache: ViewScope | None = None
        self._looks_for_missing = False
        self._shared: tuple[float, bool] | None = None
        self._facts = ViewFacts()
        self._id_table: tuple[list[str], list[str]] | None = None
        self._found: list[Neighbors] = []
        self._connection: Connection | None = None
        self._milvus: MilvusCollection | None = None
        self._fields: SyncedFields | None = None
        self._from_field = False
        SimilarityIndex.__init__(self, samples, config, brain_key, backend=backend)
        DuplicatesMixin.__init__(self)

    @property
    def connection(self) -> Connection:
        """The connection of this index, shared by every index at the same address."""
        if self._connection is None:
            self._connection = self.config.connect()
        return self._connection

    @property
    def client(self) -> MilvusClient:
        """The live ``pymilvus.MilvusClient`` of this index.

        Take it again rather than keep it: on the embedded engine, it is refused after the service
        was restarted.
        """
        self._collection.wait_until_loaded()
        return self.connection.client

    @property
    def collection(self) -> Any:
        """The live ``pymilvus.Collection`` of this index, or None if it does not exist yet.

        It belongs to pymilvus' ORM, which pymilvus 3.1 removes. :attr:`client` stays.
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
                replicas=config.replicas,
                check=self._check_layout,
                index=self._own_index,
            )
        return self._milvus

    def _check_layout(self, layout: Layout) -> None:
        """Checks that the collection, when it is opened, is what the run was made for.

        Raises:
            CollectionMismatchError: if another program made it again with another metric, or
                without the metadata fields
        """
        config, where = self.config, self._collection.where
        found = layout.metric_type
        if found not in (None, metrics.metric_type(config.metric)):
            raise CollectionMismatchError(
                f"The {where} is indexed for metric '{metrics.metric_of(str(found)) or found}', "
                f"not '{config.metric}' as this index: another program made it again; make a new "
                "index, or use another collection_name"
            )
        recorded = [column.path for column in layout.fields.columns] if layout.fields else []
        lacking = [path for path in config.fields or () if path not in recorded]
        if lacking:
            raise CollectionMismatchError(
                f"The {where} has no metadata field '{lacking[0]}'; it has {recorded}: pass those "
                "as fields, or make a new index"
            )

    def _own_index(self, dimension: int) -> tuple[str, str, dict[str, Any]]:
        """Returns metric type, index type and build parameters of the vector index."""
        config, index_type = self.config, self._index_type
        params = index_types.build_params(index_type, config.index_params, dimension)
        params |= scale.fitted(config.scale, self.connection).for_index(index_type)
        return metrics.metric_type(config.metric), index_type, params

    @property
    def _index_type(self) -> str:
        engine = self.connection.engine
        return self.config.index_type or index_types.default_index_type(engine)

    @property
    def _lookup(self) -> Ids:
        return Ids(self._collection, self._samples._root_dataset, self.config.patches_field)

    @property
    def _searcher(self) -> Searcher:
        return self._make_searcher()

    def _make_searcher(self, plan: str | None = None, trace: Trace | None = None) -> Searcher:
        return Searcher(
            self._collection,
            self.config.metric,
            self.config.search_params,
            patches=self._patches,
            plan=plan,
            trace=trace or Trace(),
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
            "database": database_id(),
        }

    @property
    def _synced_fields(self) -> SyncedFields | None:
        """The metadata fields that a search may use, if they are :meth:`SyncedFields.fresh`."""
        if not self.config.fields:
            return None
        if not self._collection.opened() and not self._collection.present():
            return None
        return self._metadata_fields()

    def _other_users(self) -> list[User]:
        """Returns the other brain runs, of all datasets, that name the existing collection."""
        own, deployment = (self._dataset_id, self.key), self.connection.target.deployment
        found = users(self._collection.names(), deployment)
        return [user for user in found if (user.dataset_id, user.brain_key) != own]

    @property
    def _dataset_id(self) -> str | None:
        """The ID of the dataset; None if it was deleted, and its runs with it."""
        try:
            return str(self._samples._root_dataset._doc.id)
        except ValueError:
            return None

    def _metadata_fields(self) -> SyncedFields:
        """Returns the metadata fields of the collection, which may not exist yet."""
        if self._fields is None:
            self._fields = SyncedFields(
                self._collection,
                self._samples._root_dataset,
                self.config.patches_field,
                self.config.fields or (),
                self.key,
            )
        return self._fields

    @property
    def total_index_size(self) -> int:
        """The exact number of vectors in the collection."""
        return self._collection.count(strong=True) if self._collection.present() else 0

    @property
    def index_size(self) -> int:
        """The number of vectors in the current view."""
        return len(self.current_sample_ids) if self.has_view else self.total_index_size

    @property
    def sample_ids(self) -> npt.NDArray[np.str_]:
        """The sample IDs of the full index."""
        return np.array(self._ids()[1], dtype=str)

    @property
    def label_ids(self) -> npt.NDArray[np.str_] | None:
        """The label IDs of the full index, or None if it is not an index of patches."""
        return np.array(self._ids()[0], dtype=str) if self._patches else None

    def _ids(self) -> tuple[list[str], list[str]]:
        return self._id_table or self._lookup.all()

    def _current_ids(self) -> list[str]:
        """Returns the primary keys of the current view, in the order of the index."""
        found = self.current_label_ids if self._patches else self.current_sample_ids
        ids = [str(i) for i in found]
        if ids and not self.has_view and (scope := self._shared_scope()) is not None:
            rows = scope.rows()
            ids = [i for i in ids if i in rows]
        return ids

    def _vectors(self, ids: list[str], progress: Any = None) -> Vectors:
        return neighborhoods.read(self._collection, ids, self.config.metric, progress=progress)

    def _apply_view(self) -> None:
        # The base class reads sample_ids and label_ids: one read serves both
        self._id_table = self._ids()
        try:
            super()._apply_view()
        finally:
            self._id_table = None

    def _parse_query(self, query: Any) -> Any:
        """Returns IDs as a list, and vectors or embedded texts and images as an array."""
        if query is not None:
            query = asked.read(self, query)
        if isinstance(query, str):
            asked.check_text(self, [query])
        if query is not None and not isinstance(query, str):
            texts = queries.texts_of(query)
            if texts is not None:
                query = texts
                asked.check_text(self, texts)
            else:
                # An iterator can be read once
                items = query if hasattr(query, "__len__") else list(query)
                query = arrays.real_numbers(items, "queries")
        return internals.member(SimilarityIndex, "_parse_query")(self, query)

    def reload(self) -> None:
        """Reloads the index for the current view, and looks again what its collection is.

        If another program dropped the vector index, it is built again, with the parameters of this
        index.

        Raises:
            CollectionNotFoundError: if another program dropped or renamed the collection
            CollectionMismatchError: if another program made it again, and it is not that of this
                index any more
        """
        self._collection.reopen()
        self._shared = None
        self._reload()

    def _reload(self) -> None:
        super().reload()

    def use_view(self, samples: Any, allow_missing: bool = True, warn_missing: bool = False) -> Any:
        """Restricts the index to a view; see the base class.

        Raises:
            InvalidInputError: if it is not the dataset of this index, or a view of it
        """
        self._check_samples(samples)
        allow_missing = check_flag("allow_missing", allow_missing)
        warn_missing = check_flag("warn_missing", warn_missing)
        self._scope_cache = None
        self._looks_for_missing = warn_missing or not allow_missing
        return super().use_view(samples, allow_missing=allow_missing, warn_missing=warn_missing)

    def _check_samples(self, samples: Any) -> None:
        """Raises InvalidInputError unless it is the dataset of this index, or a view of it."""
        if not isinstance(samples, foc.SampleCollection):
            raise InvalidInputError(
                f"Invalid samples {shown(samples)}; expected the dataset or a view of it"
            )
        given, own = samples._root_dataset, self._samples._root_dataset
        if given._doc.id != own._doc.id:
            raise InvalidInputError(
                f"Dataset '{given.name}' is not the one of this index, '{own.name}'; pass that "
                "dataset, or a view of it"
            )

    def _scope(self) -> ViewScope | None:
        """Returns the view that restricts searches, or None."""
        if not self.has_view:
            return None
        if self._looks_for_missing:
            _ = self.current_sample_ids  # FiftyOne compares the view with the index for it
        scope = self._view_scope(self.view)
        if self._scope_cache is not None:
            scope.take_over(self._scope_cache)
        self._scope_cache = scope
        return scope

    def _shared_scope(self) -> ViewScope | None:
        """Returns the dataset as a scope if others have rows in the collection, else None.

        Asks FiftyOne's database at most once a minute.
        """
        if self._dataset_id is None:
            return None
        now = time.monotonic()
        if self._shared is None or now - self._shared[0] > _SHARED_SECONDS:
            own = (self._dataset_id, self.config.patches_field)
            others = users([self.config.collection_name])
            self._shared = now, any((u.dataset_id, u.patches_field) != own for u in others)
        return self._view_scope(self._samples) if self._shared[1] else None

    def _view_scope(self, view: Any) -> ViewScope:
        patches_field = self.config.patches_field
        facts = self._facts.of(view)
        fields = self._synced_fields
        columns = fields.columns if fields is not None else ()
        expression = translate(view, columns, patches_field)
        if expression == "":
            # The view keeps every sample, so the share of rows in it is known: nearly all
            expression, facts.share = None, facts.share or 1.0
        elif expression and fields is not None and _reads(expression, columns):
            expression = expression if fields.fresh(view) else None
        if expression is not None and len(expression) > _LONG_EXPRESSION:
            expression = None
        return ViewScope(view, patches_field, expression=expression, facts=facts, kept=KEPT)


def _reads(expression: str, columns: Sequence[Column]) -> bool:
    """Whether an expression may depend on the values of metadata fields."""
    return any(re.search(rf"\b{re.escape(c.name)}(_set)?\b", expression) for c in columns)
