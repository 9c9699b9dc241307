"""Finds the rows of an index by the sample and label IDs that a caller gives."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from bson import ObjectId

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset.given_ids import as_strings
from fiftyone_milvus.errors import InvalidInputError, MissingIDsError
from fiftyone_milvus.schema.columns import label_root
from fiftyone_milvus.search.views import ViewScope

logger = logging.getLogger(__name__)

_FEW = 20_000
"""Up to so many IDs are looked up in MongoDB; for more, all of the dataset's are read."""


class Ids:
    """The primary keys and sample IDs of an index.

    Args:
        collection: the collection, which need not exist
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
    """

    def __init__(
        self, collection: MilvusCollection, dataset: Any, patches_field: str | None
    ) -> None:
        self._collection = collection
        self._dataset = dataset
        self._patches_field = patches_field

    def all(self) -> tuple[list[str], list[str]]:
        """Returns the primary keys and the sample IDs of all rows, in key order.

        Returns:
            two lists of equal length, which are empty if there is no collection

        Raises:
            CollectionNotFoundError: if another program dropped the collection
            EngineError: if Milvus returns fewer rows than it counts
        """
        if not self._collection.present():
            return [], []
        return self.with_samples(
            *self._collection.known_ids(with_samples=self._patches_field is not None)
        )

    def given(
        self, sample_ids: Sequence[str] | None, label_ids: Sequence[str] | None
    ) -> tuple[list[str] | None, bool]:
        """Returns the IDs that a caller gave, and what kind they are.

        Args:
            sample_ids: sample IDs, or one as a string; None for none. They are ignored, with a
                warning, if ``label_ids`` are given
            label_ids: label IDs, or one as a string; None for none

        Returns:
            the IDs as a list of strings, or None if none are given; and True if they are the
            sample IDs of patches, or False if they are primary keys

        Raises:
            InvalidInputError: if label IDs are given and the index holds no patches, or if one is
                no ID
        """
        if label_ids is not None:
            if self._patches_field is None:
                raise InvalidInputError(
                    "This index does not support label IDs; give sample_ids instead"
                )
            if sample_ids is not None:
                logger.warning("Ignoring sample IDs when label IDs are provided")
            return as_strings(label_ids, "label_ids"), False
        if sample_ids is None:
            return None, False
        return as_strings(sample_ids, "sample_ids"), self._patches_field is not None

    def find(
        self, ids: list[str], by_sample: bool, allow_missing: bool, warn_missing: bool
    ) -> list[str]:
        """Returns the primary keys of the given IDs that are in the index, in the order given.

        Args:
            ids: primary keys, or sample IDs
            by_sample: whether they are sample IDs
            allow_missing: whether some may be missing from the index
            warn_missing: whether to log how many are missing

        Returns:
            a list of keys; of sample IDs, the keys of each sample's patches in key order

        Raises:
            MissingIDsError: if some are missing and ``allow_missing`` is False
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        found: list[str] = []
        present: Collection[str] = ()
        if self._collection.present():
            if by_sample:
                table = self._of_samples(ids)
                order = {_id: i for i, _id in enumerate(ids)}
                found = sorted(table, key=lambda pk: (order[table[pk]], pk))
                present = set(table.values())
            else:
                present = self._collection.existing(ids)
                found = [i for i in ids if i in present]
        self.check_missing(ids, present, allow_missing, warn_missing)
        return found

    @staticmethod
    def check_missing(
        ids: Sequence[str], present: Collection[str], allow_missing: bool, warn_missing: bool
    ) -> None:
        """Checks that all of the given IDs are among those that are in the index.

        Args:
            ids: primary keys, or sample IDs
            present: those of them that are in the index
            allow_missing: whether some may be missing
            warn_missing: whether to log how many are missing

        Raises:
            MissingIDsError: if some are missing and ``allow_missing`` is False
        """
        missing = [i for i in ids if i not in present]
        if missing and not allow_missing:
            raise MissingIDsError(
                f"Found {len(missing)} IDs (for example '{missing[0]}') that are not present in "
                "the index; add them first or pass allow_missing=True"
            )
        if missing and warn_missing:
            logger.warning("Ignoring %d IDs that are not present in the index", len(missing))

    def with_samples(self, ids: list[str], sample_ids: list[str]) -> tuple[list[str], list[str]]:
        """Returns rows with their true sample IDs.

        If a foreign collection has no sample IDs for its patches, the dataset has them.

        Args:
            ids: primary keys
            sample_ids: the sample of each, as the collection has them

        Returns:
            ``ids``, and a list of the same length: the sample of each, or its primary key if the
            dataset does not have the label any more
        """
        if self._patches_field is None or self._collection.layout.sample_field is not None:
            return ids, sample_ids
        table = self._patches(ids)
        return ids, [table.get(i, i) for i in ids]

    def _of_samples(self, sample_ids: list[str]) -> dict[str, str]:
        if self._collection.layout.sample_field is not None:
            return self._collection.of_samples(sample_ids)
        given = set(sample_ids)
        if self._few(sample_ids):
            table = self._read({"_id": {"$in": _object_ids(given)}})
        else:
            rows = ViewScope(self._dataset, self._patches_field).rows()
            table = {i: s for i, s in rows.items() if s in given}
        return {i: table[i] for i in self._collection.existing(list(table))}

    def _patches(self, ids: list[str]) -> dict[str, str]:
        """Returns the sample of each of these labels, and maybe of others."""
        if not self._few(ids):
            return ViewScope(self._dataset, self._patches_field).rows()
        return self._read({f"{self._root}._id": {"$in": _object_ids(ids)}})

    def _few(self, ids: list[str]) -> bool:
        """Whether to ask MongoDB for these IDs only, where it can be asked in one query."""
        field = str(self._patches_field)
        in_frames = self._dataset._is_frame_field(field)
        return len(ids) <= _FEW and not in_frames and self._dataset.has_field(field)

    @property
    def _root(self) -> str:
        return label_root(self._dataset, str(self._patches_field))[0]

    def _read(self, match: dict[str, Any]) -> dict[str, str]:
        pipeline = [{"$match": match}, {"$project": {"labels": f"${self._root}._id"}}]
        table = {}
        for document in self._dataset._sample_collection.aggregate(pipeline):
            labels = document.get("labels")
            for label in labels if isinstance(labels, list) else [labels]:
                table[str(label)] = str(document["_id"])
        table.pop("None", None)
        return table


def _object_ids(ids: Iterable[str]) -> list[ObjectId]:
    # Another program's keys need not be FiftyOne's
    return [ObjectId(i) for i in ids if ObjectId.is_valid(i)]
