"""A new index that vectors are moved to, which becomes a brain run when it is complete.

Its collection records where the vectors come from, so that a later call can continue.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus import embedded
from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig, unique_name
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.collection.filters import batches
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.connection import CREDENTIALS, Connection, Request, Settings, resolve
from fiftyone_milvus.connection.resolution import LOCAL_SERVER
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import CollectionError, CollectionMismatchError, FiftyOneMilvusError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.moving import runs
from fiftyone_milvus.schema.layout import MOVING
from fiftyone_milvus.syncing.difference import compare
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.writing import validation
from fiftyone_milvus.writing.writer import Writer, flush_if_due

logger = logging.getLogger(__name__)

_DELETE_ROWS = 10_000


@dataclass
class Filled:
    """What :meth:`Destination.fill` wrote.

    Attributes:
        count: the number of vectors that were written
        skipped: for each key that was left out, why its vector can't be in the index
    """

    count: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


class Destination:
    """A new index, or one that an earlier call began.

    Args:
        samples: the dataset of the run, or a view of its frames or clips
        key: the brain key that the run will have
        config: the config of the run
        origin: a record of where the vectors come from

    Raises:
        CollectionMismatchError: if the collection that the config names already exists
        FiftyOneMilvusError: if Milvus does not answer, or the config can't be used
    """

    def __init__(
        self, samples: Any, key: str, config: MilvusSimilarityConfig, origin: Mapping[str, Any]
    ) -> None:
        self._mark = {
            **origin,
            "to": key,
            "metric": config.metric,
            "index_type": config.index_type,
            "index_params": config.index_params,
            "fields": config.fields,
        }
        connection = config.connect()
        names = connection.run(Request("list_collections"))
        begun = self._begun(connection, samples, key, config.collection_name, names)
        if begun is None and config.collection_name in names:
            raise CollectionMismatchError(
                f"Collection '{config.collection_name}' already exists at "
                f"{connection.target.address}, and was not begun by this same call; use another "
                "collection_name, or leave it out"
            )
        config.collection_name = begun or config.collection_name
        self.index = MilvusSimilarity(config).initialize(samples, key)
        self._samples = samples
        self._collection = self.index._collection
        self._created = False

    def difference(self, keys: Expected) -> npt.NDArray[np.bool_]:
        """Returns which keys the index already has; removes rows with other keys."""
        if not self._collection.present():
            return np.zeros(len(keys), dtype=bool)
        found = compare(self._collection, keys, patches=False)
        stale = [*object_ids.to_strings(found.unexpected.keys), *found.unexpected.foreign]
        for part in batches(stale, _DELETE_ROWS):
            self._collection.delete(part)
        return found.present

    def fill(self, rows: Iterator[Rows], total: int, *, title: str, progress: Any = None) -> Filled:
        """Writes rows in the background while the next are read.

        Rows that were written before an error or an interruption stay.

        Args:
            rows: the rows
            total: their approximate number
            title: the text in front of the progress bar
            progress (None): a progress setting of FiftyOne
        """
        filled = Filled()
        fields = self.index._metadata_fields()
        watermark = fields.watermark()
        writer: Writer | None = None
        try:
            with ExitStack() as stack:
                bar = stack.enter_context(
                    ProgressBar(total, title, show=total > 0, progress=progress)
                )
                for some in rows:
                    batch = self._checked(some, filled)
                    if not len(batch):
                        continue
                    if watermark is not None:
                        values = fields.values(batch.ids, batch.sample_ids)
                        batch = replace(batch, fields=values)
                    if writer is None:
                        self._create(batch.vectors.shape[1])
                        # Another process may be moving the same vectors
                        writer = stack.enter_context(
                            Writer(self._collection, replace=True, on_written=bar.update)
                        )
                    writer.add(batch)
        except BaseException:
            if writer is not None and writer.written:
                logger.info(
                    "%d vectors were moved before this; the same call continues from there",
                    writer.written,
                )
            raise
        filled.count = writer.written if writer is not None else 0
        if filled.count:
            flush_if_due(self._collection, filled.count, wait=False)
        if watermark is not None and self._collection.present():
            if self._created:
                fields.written(watermark, (), all_rows=True)
            else:
                fields.sync(progress=progress)
        return filled

    def count(self) -> int:
        """Returns the number of rows."""
        return self._collection.count(strong=True) if self._collection.present() else 0

    def read(self, ids: Sequence[str]) -> Rows:
        """Returns rows with their vectors."""
        return self._collection.fetch(ids, strong=True)

    def store(self, dataset: Any, embedded: Mapping[str, Any]) -> None:
        """Stores the complete index as a brain run; replaces a run of the same key atomically.

        Args:
            dataset: the :class:`fiftyone.core.dataset.Dataset`
            embedded: the record of when the vectors were computed; empty if that is unknown
        """
        index, key = self.index, str(self.index.key)
        if embedded and self._collection.present():
            self._collection.record_embedded(embedded)
        if key not in dataset.list_brain_runs():
            MilvusSimilarity.save_run_results(self._samples, key, index)
        else:
            config, results = index.config.serialize(), index.serialize()
            runs.rewrite(dataset, key, config, results, of=self._samples)
            # With the credentials of this call, like compute_similarity()
            runs.remember(dataset, key, index)
        try:
            if self._collection.present():
                self._collection.set_owner(index._owner)
            index.connection.register_orm()
            index.reload()
            _log_address(index)
        except FiftyOneMilvusError as error:
            # Only logged, as the run is stored
            logger.warning(
                "Index '%s' is stored, but the %s may still be recorded as one that vectors are "
                "being moved to: %s",
                key,
                self._collection.where,
                error,
            )

    def _create(self, dimension: int) -> None:
        if not self._collection.present():
            mark = {MOVING: {**self._mark, "seen": time.time_ns() // 1_000_000}}
            self._created = self.index._create(dimension, self.index._metadata_fields(), mark)

    def _checked(self, rows: Rows, filled: Filled) -> validation.Batch:
        vectors = validation.as_vectors(rows.vectors, "embeddings")
        collection = self._collection
        known = collection.layout.dimension if collection.opened() else None
        validation.check_dimension(vectors.shape[1], known)
        bad = validation.unusable(vectors, self.index.config.metric)
        batch = validation.Batch(list(rows.ids), list(rows.sample_ids), vectors)
        if not bad:
            return batch
        why = {rows.ids[row]: f"its vector {what}" for row, (what, _) in bad.items()}
        filled.skipped.update(why)
        return batch.without(set(why))

    def _begun(
        self, connection: Connection, samples: Any, key: str, named: str | None, names: list[str]
    ) -> str | None:
        """Returns the collection that an earlier call of the same kind began, or None."""
        first = unique_name(samples, key, ())
        pattern = re.compile(re.escape(named or first) + ("" if named else "(_[0-9a-f]{8})?"))
        dataset_id = str(samples._root_dataset._doc.id)
        for name in filter(pattern.fullmatch, names):
            try:
                owner = MilvusCollection(connection, name).describe().owner
            except CollectionError:
                continue
            mark = dict(owner.get(MOVING) or {})
            mark.pop("seen", None)
            if owner.get("dataset_id") == dataset_id and mark == self._mark:
                logger.info("Continuing with the %s", MilvusCollection(connection, name).where)
                return name
        return None


def _log_address(index: MilvusSimilarityIndex) -> None:
    """Logs where an index is, and the settings that other processes need to find it there.

    Credentials are never stored with a run.
    """
    target = index.connection.target
    config = MilvusSimilarityConfig()
    config.load_credentials()
    settings = Settings.parse({name: getattr(config, name) for name in CREDENTIALS})
    address = LOCAL_SERVER
    if settings.uri is not None:
        address = resolve(settings, None).address
    elif target.deployment == "embedded":
        address = str(embedded.default_path())
    database, default = target.settings.db_name or "default", settings.db_name or "default"
    if (address, default) == (target.address, database):
        logger.info("Index '%s' is in %s", index.key, index._collection.where)
        return
    logger.warning(
        "Index '%s' is in %s, but other processes, such as the App, look for it at %s: set "
        "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI=%s for them%s, or load it with uri=",
        index.key,
        index._collection.where,
        address,
        target.address,
        f" and ..._DB_NAME={database}" if database != default else "",
    )
