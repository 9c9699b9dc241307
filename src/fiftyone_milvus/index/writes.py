"""Adds and removes the embeddings of an index."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus import metrics
from fiftyone_milvus.collection import CollectionSpec
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset.internals import brain_utils
from fiftyone_milvus.errors import CollectionMismatchError, ExistingIDsError, InvalidInputError
from fiftyone_milvus.fields.store import FieldsReport, SyncedFields
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_flag
from fiftyone_milvus.schema import index_types, scale, support
from fiftyone_milvus.schema.scale import Scale
from fiftyone_milvus.syncing.media import Embedded
from fiftyone_milvus.writing import validation, writer
from fiftyone_milvus.writing.validation import Batch

logger = logging.getLogger(__name__)

_SAME_LENGTH = 0.01

NO_METADATA_FIELDS = (
    "This index has no metadata fields; make one with compute_similarity(..., fields=[...])"
)


class IndexWrites(IndexBase):
    """Writes to the collection of an index."""

    def adopt(self) -> None:
        """Checks that the existing collection can serve as this index, and opens it.

        Raises:
            CollectionMismatchError: if its fields or its metric are not those of this index
            InvalidInputError: if it has no vector index, and the engine can't build the one asked
        """
        config = self.config
        collection = self._collection
        metric_type = metrics.metric_type(config.metric)
        index_type = self._index_type
        layout = collection.describe()
        if layout.index_type is None:
            support.check_offered(self.connection, index_type, config.index_params)
            collection.ensure_index(
                metric_type,
                index_type,
                index_types.build_params(index_type, config.index_params, layout.dimension),
            )
            layout = collection.describe()
        found = layout.metric_type
        if found != metric_type:
            raise CollectionMismatchError(
                f"The {collection.where} is indexed for metric "
                f"'{metrics.metric_of(str(found)) or found}', not '{config.metric}'; pass that "
                "metric, or use another collection_name"
            )
        if config.fields:
            self._metadata_fields().require(config.fields)
        _ = collection.layout
        self._log_ignored_parameters()
        self.connection.register_orm()

    def rename_owner(self, brain_key: str) -> None:
        """Records another brain key with the collection, if it is recorded as this run's own."""
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
        """Adds embeddings to the index; creates the collection if it does not exist.

        Everything is checked before anything is written. If the first upload to a new collection
        fails or is interrupted, the collection is dropped. A call that failed on an existing
        collection can be repeated.

        If the index was made with both a model and a field of the dataset
        (``compute_similarity(model=..., embeddings="field")``), the embeddings are also stored in
        that field.

        Args:
            embeddings: a ``num_embeddings x num_dims`` array
            sample_ids: ``num_embeddings`` sample IDs
            label_ids (None): ``num_embeddings`` label IDs, for patches
            overwrite (True): whether to replace (True) or keep (False) existing embeddings of the
                same IDs
            allow_existing (True): whether to ignore (True) or raise an error (False) when an ID
                is in the index already
            warn_existing (False): whether to log a warning if IDs are in the index already
            reload (True): whether to call :meth:`reload` afterwards

        Raises:
            InvalidInputError: if IDs or embeddings can't be used
            DimensionMismatchError: if the embeddings have another dimension than the index
            InvalidVectorError: if an embedding is not finite, or zero for metric cosine
            ExistingIDsError: if IDs repeat, or exist and ``allow_existing`` is False
        """
        overwrite = check_flag("overwrite", overwrite)
        allow_existing = check_flag("allow_existing", allow_existing)
        warn_existing = check_flag("warn_existing", warn_existing)
        reload = check_flag("reload", reload)
        if self._patches and label_ids is None:
            raise InvalidInputError(
                f"This is an index of patches in '{self.config.patches_field}'; give label_ids too"
            )
        if not self._patches and label_ids is not None:
            raise InvalidInputError("This index does not support label IDs; give sample_ids only")
        collection = self._collection
        new = not collection.present()
        batch = validation.check(
            embeddings,
            sample_ids,
            label_ids,
            metric=self.config.metric,
            dimension=None if new else collection.layout.dimension,
        )
        if not new and (warn_existing or not allow_existing or not overwrite):
            existing = set(collection.existing(batch.ids))
            self._report_existing(existing, overwrite, allow_existing, warn_existing)
            if not overwrite:
                batch = batch.without(existing)
        if not len(batch):
            return
        # First, as it changes the samples: later, their metadata fields would count as stale
        self._store_in_field(batch)
        fields = self._metadata_fields()
        watermark = fields.watermark()
        if watermark is not None:
            batch = replace(batch, fields=fields.values(batch.ids, batch.sample_ids))
        if new:
            new = self._create_for(batch.vectors, fields)
        try:
            # Also in a new collection: another process may have begun to write to it
            writer.upload(collection, batch, replace=True)
            if watermark is not None:
                fields.written(watermark, batch.sample_ids, all_rows=new)
        except BaseException:
            if new:
                collection.discard()
            raise
        if new:
            collection.keep_recent(Rows(batch.ids, batch.sample_ids, batch.vectors))
        self.connection.register_orm()
        if reload:
            self._reload()

    def expect_field(self, expected: bool = True) -> None:
        """Says that FiftyOne reads the embeddings that it adds next from ``embeddings_field``.

        Args:
            expected (True): whether it does, if there is such a field
        """
        config, path = self.config, self.config.embeddings_field
        patches_field = config.patches_field or config.roi_field
        self._from_field = (
            expected
            and path is not None
            and brain_utils.parse_data_field(self._samples, path, patches_field=patches_field)[1]
        )

    def _store_in_field(self, batch: Batch) -> None:
        """Stores a model's embeddings in ``embeddings_field``, as FiftyOne's own backend does."""
        config = self.config
        made_with_model = config.model is not None or self._model is not None
        if config.embeddings_field is None or not made_with_model or self._from_field:
            return
        brain_utils.add_embeddings(
            self._samples,
            batch.vectors,
            batch.sample_ids,
            batch.ids if self._patches else None,
            config.embeddings_field,
            patches_field=config.patches_field,
        )

    def _create_for(self, vectors: Array, fields: SyncedFields) -> bool:
        """Creates the collection for vectors, like :meth:`_create`; warns of a metric by default.

        Args:
            vectors: the first ``num_vectors x num_dims`` array of them
            fields: the metadata fields
        """
        if self.config.metric == "dotproduct" and not self.config._metric_named:
            lengths = np.linalg.norm(vectors, axis=1)
            if lengths.max() > (1 + _SAME_LENGTH) * lengths.min():
                logger.warning(
                    "The vectors have different lengths, %.3g to %.3g, and no metric was named: by "
                    "'dotproduct', the default, long vectors are similar to all others; pass "
                    "metric='cosine' to compare directions, or metric='dotproduct' if you mean it",
                    lengths.min(),
                    lengths.max(),
                )
        return self._create(vectors.shape[1], fields)

    def _create(
        self, dimension: int, fields: SyncedFields, mark: Mapping[str, Any] | None = None
    ) -> bool:
        """Creates the collection; returns False if another process has just created it.

        Args:
            dimension: of the vectors
            fields: the metadata fields
            mark: what else to record with the owner if vectors are moved, not computed now
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
        """Checks that the engine can create the collection that the config describes.

        Returns:
            how the collection is spread, as far as this engine supports it

        Raises:
            InvalidInputError: if it can't
        """
        support.check_offered(self.connection, self._index_type, self.config.index_params)
        return scale.fitted(self.config.scale, self.connection)

    def _log_ignored_parameters(self) -> None:
        """Logs which parameters of the config an existing collection can't take."""
        asked = {
            name: value
            for name in ("num_shards", "mmap", "partition_key", "num_partitions")
            if (value := getattr(self.config, name)) is not None
        }
        if asked and not self.connection.engine.lite:
            logger.info(
                "The %s exists and keeps its shards, partitions and memory map; ignoring %s, which "
                "is for new collections",
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
                f"Found {len(existing)} IDs (for example '{min(existing)}') that already exist in "
                "the index; leave them out or pass allow_existing=True"
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
            sample_ids (None): sample IDs; for patches, all patches of these samples
            label_ids (None): label IDs, for patches
            allow_missing (True): whether to ignore (True) or raise an error (False) when an ID is
                not in the index
            warn_missing (False): whether to log a warning if IDs are not in the index
            reload (True): whether to call :meth:`reload` afterwards

        Raises:
            InvalidInputError: if no IDs are given, or one is no ID
            MissingIDsError: if IDs are not in the index and ``allow_missing`` is False
        """
        allow_missing = check_flag("allow_missing", allow_missing)
        warn_missing = check_flag("warn_missing", warn_missing)
        reload = check_flag("reload", reload)
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
            self._reload()

    def cleanup(self, force: bool = False) -> None:
        """Drops the collection, if it exists and no other brain run uses it.

        If another run of this FiftyOne database names it, such as that of a clone of the dataset,
        the collection stays, with a warning. So does one that ``collection_name`` is an alias of.

        Args:
            force (False): whether to drop the collection although other brain runs use it
        """
        collection = self._collection
        if collection.exists():
            if collection.is_alias():
                name = collection.names()[0]
                why = f"'{collection.name}' is an alias of '{name}'"
                remedy = f"drop it with index.client.drop_collection('{name}')"
            else:
                others = [] if force else self._other_users()
                why = f"brain runs use it too: {', '.join(map(str, others))}" if others else ""
                remedy = "cleanup(force=True) drops it for all of them"
            if why:
                logger.warning("The %s stays: %s; %s", collection.where, why, remedy)
                collection.forget()
                return
        if collection.drop():
            logger.info("Dropped %s", collection.where)

    @property
    def fields(self) -> tuple[str, ...]:
        """The metadata fields: FiftyOne fields that are stored with each vector."""
        return tuple(self.config.fields or ())

    def sync_fields(self, progress: bool | None = None) -> FieldsReport:
        """Brings the metadata fields up to date with the dataset.

        Reads the samples that were written since the last time, in bounded memory, and rewrites
        the rows whose values differ. Rows whose sample was deleted keep their values. If it is
        interrupted, call it again. Don't edit samples or add embeddings at the same time.

        Args:
            progress (None): whether to show a progress bar. By default,
                ``fiftyone.config.show_progress_bars`` decides

        Returns:
            a :class:`fiftyone_milvus.fields.store.FieldsReport`

        Raises:
            InvalidInputError: if the index has no metadata fields, or one does not exist any more
                or can't be stored
        """
        if not self.config.fields:
            raise InvalidInputError(NO_METADATA_FIELDS)
        if not self._collection.present():
            return FieldsReport(0, 0, 0.0)
        return self._metadata_fields().sync(progress=progress)
