"""FiftyOne's fields beside the vectors of one index: written with them, and brought up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import CollectionMismatchError, InvalidInputError
from fiftyone_milvus.fields import staleness
from fiftyone_milvus.fields.values import MilvusValues, Row, ValueReader, as_milvus
from fiftyone_milvus.schema.columns import Column, resolve_columns
from fiftyone_milvus.schema.record import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FieldsReport:
    """What :meth:`SyncedFields.sync` did.

    Attributes:
        checked: samples, or patches, whose values were compared
        updated: those whose values in Milvus were not up to date, and are now
        seconds: how long it took
    """

    checked: int
    updated: int
    seconds: float


class SyncedFields:
    """The fields beside the vectors of one index.

    Args:
        collection: the collection, which may not exist yet
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field whose labels are the index's rows, or None for samples
        paths: the fields that a new collection gets
        key: the brain key, for messages
    """

    def __init__(
        self,
        collection: MilvusCollection,
        dataset: Any,
        patches_field: str | None,
        paths: Sequence[str] = (),
        key: str | None = None,
    ) -> None:
        self._collection = collection
        self._dataset = dataset
        self._patches_field = patches_field
        self._paths = tuple(paths)
        self._key = key
        self._told = False

    @property
    def record(self) -> Record | None:
        """What the collection records, or will when it is made; None if it has no fields."""
        if self._collection.opened() or self._collection.exists():
            return self._collection.layout.fields
        columns = resolve_columns(self._dataset, self._patches_field, self._paths)
        return Record(columns, _id(self._dataset)) if columns else None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the collection, or those that it will have when it is made."""
        record = self.record
        return record.columns if record is not None else ()

    @property
    def own(self) -> bool:
        """Whether the collection has fields, and they are of this dataset."""
        return self._own(self.record)

    def fresh(self, view: Any = None) -> bool:
        """Whether the values in Milvus are those of FiftyOne's database; about a millisecond.

        Says once, at INFO, if they are not. Rows whose sample or label is gone don't count.

        Args:
            view: the view that is searched; one of patches is a copy, which may be older
        """
        record = self.record
        if not self._is_fresh(record):
            # Another process may have brought them up to date
            record = self._collection.fields()
        if record is not None and self._is_fresh(record):
            return view is None or staleness.is_copied_since(view, record.watermark)
        if not self._told:
            self._told = True
            logger.info(
                "The fields beside the vectors of index '%s' are not up to date; searching without "
                "them; call index.sync_fields()",
                self._key or self._collection.name,
            )
        return False

    def require(self, paths: Sequence[str]) -> None:
        """Checks that the collection has the given fields.

        Raises:
            CollectionMismatchError: if it lacks one
        """
        recorded = {column.path: column for column in self.columns}
        for wanted in resolve_columns(self._dataset, self._patches_field, paths):
            found = recorded.get(wanted.path)
            if found is None or (found.kind, found.on_label) != (wanted.kind, wanted.on_label):
                raise CollectionMismatchError(
                    f"The {self._collection.where} does not hold field '{wanted.path}' as a "
                    f"{wanted.kind.value} beside its vectors but {list(recorded)}; pass those as "
                    "fields, or make a new index"
                )

    # -- writing -------------------------------------------------------------------------------

    def watermark(self) -> int | None:
        """Returns the watermark of values that are read from now on; None if there are none."""
        return staleness.newest(self._dataset) if self.columns else None

    def values(self, ids: Sequence[str], sample_ids: Sequence[str]) -> MilvusValues:
        """Returns what to write beside the vectors of rows.

        Args:
            ids: the primary keys
            sample_ids: the sample of each

        Raises:
            InvalidInputError: if a value can't be stored
        """
        columns = self.columns
        if not self._own(self.record):
            # Another dataset's fields: these rows have no value of them
            return MilvusValues(columns, [(None,) * len(columns)] * len(ids))
        return MilvusValues(columns, self._reader().read(ids, sample_ids))

    def written(self, watermark: int, sample_ids: Collection[str], *, all_rows: bool) -> None:
        """Notes that rows were written with values that were read after ``watermark``.

        Args:
            watermark: from :meth:`watermark`
            sample_ids: the samples of the rows
            all_rows: whether these are all rows of the collection
        """
        record = self._collection.fields()
        if record is None:
            return
        if not self._own(record):
            # Rows of the same keys may have lost the values that their owner believes to be there
            self._set_watermark(record, None)
        elif all_rows or (
            record.watermark is not None
            and staleness.only(self._dataset, record.watermark, watermark, sample_ids)
        ):
            self._set_watermark(record, watermark)

    # -- bringing up to date -------------------------------------------------------------------

    def sync(self, progress: bool | None = None) -> FieldsReport:
        """Brings the values up to date with FiftyOne's database.

        Reads the samples that were written since the last time, and rewrites the rows whose values
        differ, in bounded memory. If it is interrupted, call it again.

        Args:
            progress: whether to show a progress bar; None for FiftyOne's own setting

        Raises:
            InvalidInputError: if a field is gone or can't be stored any more
        """
        start = time.monotonic()
        record = self._collection.fields()
        if record is None:
            return FieldsReport(0, 0, 0.0)
        if not self._own(record):
            raise InvalidInputError(
                f"The fields of the {self._collection.where} are those of another dataset; make an "
                f"index of '{self._dataset.name}' of its own"
            )
        self._check_columns(record)
        watermark = self.watermark()
        match = staleness.newer(record.watermark)
        count = self._dataset._sample_collection.count_documents(match)
        checked = updated = 0
        title = "Updating fields in Milvus"
        with ProgressBar(count, title, show=count > 0, what="samples", progress=progress) as bar:
            for samples, batch in self._reader().batches(match):
                updated += self._update(record, batch)
                checked += len(batch)
                bar.update(samples)
        if watermark != record.watermark:
            self._set_watermark(record, watermark)
        self._told = False
        return FieldsReport(checked, updated, time.monotonic() - start)

    def _update(self, record: Record, batch: Mapping[str, Row]) -> int:
        stored = self._collection.values(list(batch), record.milvus_fields)
        values = {i: as_milvus(record.columns, batch[i]) for i in stored}
        changes = {i: v for i, v in values.items() if v != stored[i]}
        return self._collection.change(changes)

    # -- inside --------------------------------------------------------------------------------

    def _reader(self) -> ValueReader:
        return ValueReader(self._dataset, self._patches_field, self.columns)

    def _own(self, record: Record | None) -> bool:
        return record is not None and record.dataset_id == _id(self._dataset)

    def _is_fresh(self, record: Record | None) -> bool:
        return (
            record is not None
            and self._own(record)
            and staleness.is_fresh(self._dataset, record.watermark)
            and self._resolves(record)
        )

    def _resolves(self, record: Record) -> bool:
        try:
            self._check_columns(record)
        except InvalidInputError:
            return False
        return True

    def _check_columns(self, record: Record) -> None:
        try:
            found = resolve_columns(
                self._dataset, self._patches_field, [column.path for column in record.columns]
            )
        except InvalidInputError as error:
            raise InvalidInputError(f"{error}; restore the field or make a new index") from None
        for column, now in zip(record.columns, found):
            if (column.kind, column.on_label) != (now.kind, now.on_label):
                raise InvalidInputError(
                    f"Field '{column.path}' is a {now.kind.value} now, and a {column.kind.value} "
                    "beside the vectors; make a new index"
                )

    def _set_watermark(self, record: Record, watermark: int | None) -> None:
        self._collection.record_fields(replace(record, watermark=watermark))


def _id(dataset: Any) -> str:
    """Returns the ID of a FiftyOne dataset."""
    return str(dataset._doc.id)
