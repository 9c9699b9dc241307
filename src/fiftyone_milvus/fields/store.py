"""The metadata fields of one index: what is written with the vectors, and how it is updated."""

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
        checked: the number of samples, or patches, whose values were compared
        updated: the number of them whose values in Milvus were not up to date, and are now
        seconds: the duration
    """

    checked: int
    updated: int
    seconds: float


class SyncedFields:
    """The metadata fields of one index.

    Args:
        collection: the collection, which may not exist yet
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches that the index holds, or None for samples
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
        self._logged = False

    @property
    def record(self) -> Record | None:
        """The record of the collection, or of a new one; None if it has no metadata fields."""
        if self._collection.opened() or self._collection.exists():
            return self._collection.layout.fields
        columns = resolve_columns(self._dataset, self._patches_field, self._paths)
        return Record(columns, _id(self._dataset)) if columns else None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the collection, or of a new one."""
        record = self.record
        return record.columns if record is not None else ()

    @property
    def own(self) -> bool:
        """Whether the collection has metadata fields, and they are of this dataset."""
        return self._own(self.record)

    def fresh(self, view: Any = None) -> bool:
        """Whether the values in Milvus are those of FiftyOne's database; about a millisecond.

        Logs once if they are not. Rows whose sample or label was deleted don't count.

        Args:
            view (None): the view that is searched; a view of patches is a copy that may be older
        """
        record = self.record
        if not self._is_fresh(record):
            # Another process may have updated them
            record = self._collection.fields()
        if record is not None and self._is_fresh(record):
            return view is None or staleness.is_copied_since(view, record.watermark)
        if not self._logged:
            self._logged = True
            logger.info(
                "The metadata fields of index '%s' are not up to date, so searches ignore them; "
                "call index.sync_fields()",
                self._key or self._collection.name,
            )
        return False

    def require(self, paths: Sequence[str]) -> None:
        """Checks that the collection has the given fields.

        Raises:
            CollectionMismatchError: if it lacks one
        """
        recorded = {column.path: column for column in self.columns}
        for expected in resolve_columns(self._dataset, self._patches_field, paths):
            found = recorded.get(expected.path)
            if found is None or not _same_type(found, expected):
                raise CollectionMismatchError(
                    f"The {self._collection.where} has no metadata field '{expected.path}' that is "
                    f"a {expected.kind.value}; it has {list(recorded)}: pass those as fields, or "
                    "make a new index"
                )

    # -- writing -------------------------------------------------------------------------------

    def watermark(self) -> int | None:
        """Returns the watermark of values that are read from now on; None without columns."""
        return staleness.newest(self._dataset) if self.columns else None

    def values(self, ids: Sequence[str], sample_ids: Sequence[str]) -> MilvusValues:
        """Returns the values of the metadata fields of rows.

        Args:
            ids: the primary keys
            sample_ids: the sample ID of each row

        Raises:
            InvalidInputError: if a value can't be stored
        """
        columns = self.columns
        if not self._own(self.record):
            # The fields are of another dataset, so these rows have no values
            return MilvusValues(columns, [(None,) * len(columns)] * len(ids))
        return MilvusValues(columns, self._reader().read(ids, sample_ids))

    def written(self, watermark: int, sample_ids: Collection[str], *, all_rows: bool) -> None:
        """Records that rows were written with values that were read after a watermark.

        Args:
            watermark: the result of :meth:`watermark` before the values were read
            sample_ids: the samples of the rows
            all_rows: whether these are all rows of the collection
        """
        record = self._collection.fields()
        if record is None:
            return
        if not self._own(record):
            # These rows may have replaced rows of the owner, which had values
            self._set_watermark(record, None)
        elif all_rows or (
            record.watermark is not None
            and staleness.only_modified(self._dataset, record.watermark, watermark, sample_ids)
        ):
            self._set_watermark(record, watermark)

    # -- bringing up to date -------------------------------------------------------------------

    def sync(self, progress: bool | None = None) -> FieldsReport:
        """Brings the values up to date with FiftyOne's database.

        Reads the samples that were written since the last call, and rewrites the rows whose values
        differ, in bounded memory. After an interruption, call it again.

        Args:
            progress (None): whether to show a progress bar; None for FiftyOne's own setting

        Returns:
            a :class:`FieldsReport`

        Raises:
            InvalidInputError: if a field was deleted, or its values can't be stored
        """
        start = time.monotonic()
        record = self._collection.fields()
        if record is None:
            return FieldsReport(0, 0, 0.0)
        if not self._own(record):
            raise InvalidInputError(
                f"The metadata fields of the {self._collection.where} are of another dataset; make "
                f"a new index of '{self._dataset.name}'"
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
        self._logged = False
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
        if record is None or not self._own(record):
            return False
        if not staleness.is_up_to_date(self._dataset, record.watermark):
            return False
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
            if not _same_type(column, now):
                raise InvalidInputError(
                    f"Field '{column.path}' is now a {now.kind.value}, but a {column.kind.value} "
                    "in the index; make a new index"
                )

    def _set_watermark(self, record: Record, watermark: int | None) -> None:
        self._collection.record_fields(replace(record, watermark=watermark))


def _id(dataset: Any) -> str:
    """Returns the ID of a FiftyOne dataset."""
    return str(dataset._doc.id)


def _same_type(one: Column, other: Column) -> bool:
    return (one.kind, one.on_label) == (other.kind, other.on_label)
