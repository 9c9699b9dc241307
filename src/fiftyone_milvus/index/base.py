"""The state of an index: its connection, its collection and its current view."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from fiftyone.brain.similarity import DuplicatesMixin, SimilarityIndex
from pymilvus import MilvusClient

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.dataset import internals
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.fields.store import SyncedFields
from fiftyone_milvus.fields.translate import translate
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.schema.columns import Column
from fiftyone_milvus.search.ids import Ids
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.planner import Searcher, Trace
from fiftyone_milvus.search.views import ViewFacts, ViewScope

_LONG_EXPRESSION = 50_000
"""The most characters of an expression; Milvus parses it again for each request."""


class IndexBase(SimilarityIndex, DuplicatesMixin):
    """What the parts of :class:`fiftyone_milvus.index.MilvusSimilarityIndex` share."""

    def __init__(
        self, samples: Any, config: Any, brain_key: str | None, backend: Any = None
    ) -> None:
        self._scope_cache: ViewScope | None = None
        self._looks_for_missing = False
        self._facts = ViewFacts()
        self._id_table: tuple[list[str], list[str]] | None = None
        self._found: list[Neighbors] = []
        self._connection: Connection | None = None
        self._milvus: MilvusCollection | None = None
        self._fields: SyncedFields | None = None
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
            )
        return self._milvus

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
        ids = self.current_label_ids if self._patches else self.current_sample_ids
        return [str(i) for i in ids]

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
        return internals.member(SimilarityIndex, "_parse_query")(self, query)

    def use_view(self, samples: Any, allow_missing: bool = True, warn_missing: bool = False) -> Any:
        """Restricts the index to a view; see the base class."""
        self._scope_cache = None
        self._looks_for_missing = warn_missing or not allow_missing
        return super().use_view(samples, allow_missing=allow_missing, warn_missing=warn_missing)

    def _scope(self) -> ViewScope | None:
        """Returns the view that restricts searches, or None."""
        if not self.has_view:
            return None
        if self._looks_for_missing:
            _ = self.current_sample_ids  # FiftyOne compares the view with the index for it
        if self._scope_cache is None:
            self._scope_cache = self._view_scope(self.view)
        return self._scope_cache

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
        return ViewScope(view, patches_field, expression=expression, facts=facts)


def _reads(expression: str, columns: Sequence[Column]) -> bool:
    """Whether an expression may depend on the values of metadata fields."""
    return any(re.search(rf"\b{re.escape(c.name)}(_set)?\b", expression) for c in columns)
