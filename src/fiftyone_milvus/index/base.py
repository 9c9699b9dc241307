"""Where an index is, what is in it, and what a view of it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from fiftyone.brain.similarity import SimilarityIndex
from pymilvus import MilvusClient

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.dataset import internals
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.fields.store import SyncedFields
from fiftyone_milvus.fields.translate import translate
from fiftyone_milvus.search.ids import Ids
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.planner import Searcher, Trace
from fiftyone_milvus.search.views import ViewFacts, ViewScope

_LONG_EXPRESSION = 50_000
"""Characters; Milvus parses an expression again for each request, to count and to search."""


class IndexBase(SimilarityIndex):
    """The state that the parts of :class:`fiftyone_milvus.index.MilvusSimilarityIndex` share."""

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
            trace=trace,
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
        """The fields that a search may use, if they are :meth:`SyncedFields.fresh`."""
        if not self.config.fields:
            return None
        if not self._collection.opened() and not self._collection.present():
            return None
        return self._beside()

    def _beside(self) -> SyncedFields:
        """Returns the fields of the collection, this run's or another's, or of one to be made."""
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

    def _parse_query(self, query: Any) -> Any:
        return internals.member(SimilarityIndex, "_parse_query")(self, query)

    def use_view(self, samples: Any, allow_missing: bool = True, warn_missing: bool = False) -> Any:
        """Restricts the index to a view; see the base class."""
        self._scope_cache = None
        self._looks_for_missing = warn_missing or not allow_missing
        return super().use_view(samples, allow_missing=allow_missing, warn_missing=warn_missing)

    def _scope(self) -> ViewScope | None:
        """Returns what a search is restricted to, or None if to nothing."""
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
        expression = translate(view, (), patches_field)
        if expression == "":
            # Every sample of the dataset, which is what nearly all rows are of
            expression, facts.share = None, facts.share or 1.0
        elif expression is None and (fields := self._synced_fields) is not None:
            expression = translate(view, fields.columns, patches_field)
            if expression is not None and not fields.fresh(view):
                expression = None
        if expression is not None and len(expression) > _LONG_EXPRESSION:
            expression = None
        return ViewScope(view, patches_field, expression=expression, facts=facts)
