"""An index is filled, emptied, read and kept up to date."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from fiftyone_milvus import metrics
from fiftyone_milvus.collection import CollectionSpec
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    ExistingIDsError,
    InvalidInputError,
)
from fiftyone_milvus.fields.store import FieldsReport, SyncedFields
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.schema import index_types, scale, support
from fiftyone_milvus.schema.scale import Scale
from fiftyone_milvus.syncing.media import Embedded
from fiftyone_milvus.writing import validation, writer

logger = logging.getLogger(__name__)


class Storing(IndexBase):
    """What an index does with its collection."""

    def adopt(self) -> None:
        """Checks that the existing collection can serve as this index, and opens it.

        Raises:
            CollectionMismatchError: if its fields or its metric are not this index's
        """
        config = self.config
        collection = self._collection
        metric_type = metrics.metric_type(config.metric)
        index_type = self._index_type
        layout = collection.layout
        if layout.index_type is None:
            support.check_offered(self.connection, index_type, config.index_params)
        collection.ensure_index(
            metric_type,
            index_type,
            index_types.build_params(index_type, config.index_params, layout.dimension),
        )
        found = collection.layout.metric_type
        if found != metric_type:
            raise CollectionMismatchError(
                f"The {collection.where} is indexed for metric "
                f"'{metrics.metric_of(str(found)) or found}', not '{config.metric}'; pass that "
                "metric, or use another collection_name"
            )
        if config.fields:
            self._beside().require(config.fields)
        self._tell_kept()
        self.connection.register_orm()

    def rename_owner(self, brain_key: str) -> None:
        """Records another brain key with the collection, if it is recorded as this run's."""
        collection, own = self._collection, self._owner
        if not collection.exists():
            return
        recorded = collection.layout.owner
        # Older collections do not record the database
        if {"database": own["database"], **recorded} == own:
            collection.set_owner({**own, "brain_key": brain_key})

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
        batch = validation.check(
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
        fields = self._beside()
        watermark = fields.watermark()
        if watermark is not None:
            batch = replace(batch, fields=fields.values(batch.ids, batch.sample_ids))
        if fresh:
            fresh = self._create(batch.vectors.shape[1], fields)
        try:
            writer.upload(collection, batch, replace=not fresh)
            if watermark is not None:
                fields.written(watermark, batch.sample_ids, all_rows=fresh)
        except BaseException:
            if fresh:
                collection.discard()
            raise
        if fresh:
            collection.keep_recent(Rows(batch.ids, batch.sample_ids, batch.vectors))
        self.connection.register_orm()
        if reload:
            self.reload()

    def _create(
        self, dimension: int, fields: SyncedFields, mark: Mapping[str, Any] | None = None
    ) -> bool:
        """Makes the collection; returns False if another process just made it.

        Args:
            dimension: of the vectors
            fields: those beside the vectors
            mark: what else to record with the owner, where vectors are moved, and not computed now
        """
        config = self.config
        embedded = None if mark else Embedded.now(self._samples._root_dataset).to_dict()
        index_type = self._index_type
        scale = self.check_engine()
        spec = CollectionSpec(
            dimension,
            metrics.metric_type(config.metric),
            index_type,
            index_types.build_params(index_type, config.index_params, dimension),
            owner={**self._owner, **(mark or {})},
            fields=fields.record,
            embedded=embedded,
            scale=scale,
        )
        return self._collection.create(spec)

    def check_engine(self) -> Scale:
        """Checks that the engine can make the collection that the config asks for.

        Returns:
            how the collection is spread, as far as this engine spreads any

        Raises:
            InvalidInputError: if it can't
        """
        support.check_offered(self.connection, self._index_type, self.config.index_params)
        return scale.fitted(self.config.scale, self.connection)

    @property
    def _index_type(self) -> str:
        engine = self.connection.engine
        return self.config.index_type or index_types.default_index_type(engine)

    def _tell_kept(self) -> None:
        """Says what an existing collection can't be given any more."""
        asked = {
            name: value
            for name in ("num_shards", "mmap", "partition_key", "num_partitions")
            if (value := getattr(self.config, name)) is not None
        }
        if asked and not self.connection.engine.lite:
            logger.info(
                "The %s was made before: it keeps its shards, partitions and memory map, and %s "
                "is for a new one",
                self._collection.where,
                ", ".join(f"{name}={value!r}" for name, value in asked.items()),
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

    @property
    def fields(self) -> tuple[str, ...]:
        """The FiftyOne fields that are stored beside the vectors."""
        return tuple(self.config.fields or ())

    def sync_fields(self, progress: bool | None = None) -> FieldsReport:
        """Brings the fields beside the vectors up to date with the dataset.

        Reads the samples that were written since the last time, in bounded memory, and rewrites
        the rows whose values differ. Rows whose sample is gone keep theirs. If it is interrupted,
        call it again; don't edit samples or add embeddings at the same time.

        Args:
            progress (None): whether to show a progress bar. By default, as
                ``fiftyone.config.show_progress_bars`` says

        Returns:
            a :class:`fiftyone_milvus.fields.store.FieldsReport`

        Raises:
            InvalidInputError: if the index has no fields, or one is gone or can't be stored
        """
        if not self.config.fields:
            raise InvalidInputError(
                "This index has no fields beside its vectors; make one with "
                "compute_similarity(..., fields=[...])"
            )
        if not self._collection.present():
            return FieldsReport(0, 0, 0.0)
        return self._beside().sync(progress=progress)
