"""The Milvus indexes of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from fiftyone.core.brain import BrainMethod

from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.users import is_of_samples
from fiftyone_milvus.errors import CollectionNotFoundError, FiftyOneMilvusError
from fiftyone_milvus.fields import staleness
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.status import ask
from fiftyone_milvus.inventory.stored_index import keys, open_index
from fiftyone_milvus.syncing import expected_rows
from fiftyone_milvus.syncing.difference import Unexpected, compare
from fiftyone_milvus.syncing.others import of_others

__all__ = ["IndexInfo", "index_info", "indexes", "keys"]


@dataclass(frozen=True)
class IndexInfo:
    """One Milvus index of a dataset: what FiftyOne has stored, and what Milvus says.

    Values from Milvus are None if it does not answer, or if the collection does not exist.

    Attributes:
        dataset: the dataset's name
        brain_key: of the run
        collection: the name of the Milvus collection, or None
        patches_field: the field of the patches that are indexed, or None
        model: the name of the model, or None
        embeddings_field: the field that also holds the embeddings, or None
        metric: ``"cosine"``, ``"dotproduct"`` or ``"euclidean"``
        consistency_level: of reads
        fields: the metadata fields
        deployment: ``"embedded"``, ``"server"`` or None
        address: of Milvus, without credentials
        exists: whether the collection exists
        vectors: the exact number of vectors
        dimension: of the vectors
        index_type: such as ``"HNSW"``
        index_params: the build parameters, as Milvus reports them
        built: the share of the rows that the vector index is built for, in [0, 1]
        missing: how many samples or patches of the dataset are not in the index; None for indexes
            of frames or clips, or if they were not compared
        stale: how many vectors belong to deleted samples or patches; 0 in a collection that does
            not belong to this dataset, and not of samples of another dataset whose run uses the
            collection too; None for indexes of frames or clips, or if not compared
        fields_stale: whether the metadata fields are older than the dataset; None if there are
            none, or if they belong to another dataset
        error: one line with the reason why Milvus could not be asked, or None
    """

    dataset: str
    brain_key: str
    collection: str | None
    patches_field: str | None
    model: str | None
    embeddings_field: str | None
    metric: str
    consistency_level: str
    fields: tuple[str, ...]
    deployment: str | None
    address: str | None = None
    exists: bool | None = None
    vectors: int | None = None
    dimension: int | None = None
    index_type: str | None = None
    index_params: Mapping[str, str] = field(default_factory=dict)
    built: float | None = None
    missing: int | None = None
    stale: int | None = None
    fields_stale: bool | None = None
    error: str | None = None

    @property
    def bytes(self) -> int | None:
        """The bytes of the vectors alone, without graph and IDs."""
        if self.vectors is None or self.dimension is None:
            return None
        return self.vectors * self.dimension * 4

    @property
    def in_step(self) -> bool | None:
        """Whether the index is up to date with its dataset, or None if they were not compared."""
        if self.missing is None or self.stale is None:
            return None
        return not (self.missing or self.stale or self.fields_stale)

    @property
    def difference(self) -> str:
        """How index and dataset differ, such as ``"2 missing, 3 stale"``, or ``"up to date"``."""
        parts = [f"{self.missing:,} missing"] if self.missing else []
        parts += [f"{self.stale:,} stale"] if self.stale else []
        parts += ["fields stale"] if self.fields_stale else []
        return ", ".join(parts) or ("not compared" if self.in_step is None else "up to date")


@needs_database
def indexes(dataset: Any, *, compare: bool = True) -> list[IndexInfo]:
    """Returns the Milvus indexes of a dataset, in the order of their creation.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        compare (True): whether to compare the IDs of each index with the dataset's, which takes
            seconds for a million samples
    """
    return [index_info(dataset, key, compare=compare) for key in keys(dataset)]


@needs_database
def index_info(dataset: Any, brain_key: str, *, compare: bool = True) -> IndexInfo:
    """Returns one Milvus index of a dataset.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the run
        compare (True): whether to compare the index with the dataset

    Raises:
        InvalidInputError: if the dataset has no such index
    """
    index = open_index(dataset, brain_key)
    config = index.config
    info = IndexInfo(
        dataset=dataset.name,
        brain_key=brain_key,
        collection=config.collection_name,
        patches_field=config.patches_field,
        model=config.model,
        embeddings_field=config.embeddings_field,
        metric=config.metric,
        consistency_level=config.consistency_level,
        fields=tuple(config.fields or ()),
        deployment=config.deployment,
    )
    try:
        info = replace(info, address=index.connection.target.address)
        ask(index.connection)
        info = _observed(info, index)
        return _compared(info, index, dataset) if compare else info
    except FiftyOneMilvusError as error:
        return replace(info, error=str(error))


def _observed(info: IndexInfo, index: MilvusSimilarityIndex) -> IndexInfo:
    collection = index._collection
    if not collection.exists():
        # It has no vectors yet, or the collection was dropped
        return replace(info, exists=False, vectors=0)
    try:
        layout, built = collection.layout, collection.built()
    except CollectionNotFoundError:
        return replace(info, exists=False, vectors=0)
    return replace(
        info,
        exists=True,
        vectors=collection.count(strong=True),
        dimension=layout.dimension,
        index_type=layout.index_type,
        index_params=built.params,
        built=built.share,
    )


def _compared(info: IndexInfo, index: MilvusSimilarityIndex, dataset: Any) -> IndexInfo:
    if not is_of_samples(BrainMethod._get_run_doc(dataset, info.brain_key).view_stages):
        return info
    asked = expected_rows.read(dataset, info.patches_field)
    if not info.exists:
        return replace(info, missing=len(asked), stale=0)
    difference = compare(index._collection, asked, patches=info.patches_field is not None)
    return replace(
        info,
        missing=int(np.count_nonzero(~difference.present)),
        stale=_stale(index, difference.unexpected, dataset),
        fields_stale=_fields_stale(index, dataset),
    )


def _stale(index: MilvusSimilarityIndex, unexpected: Unexpected, dataset: Any) -> int:
    if not index._owned():
        return 0
    # Another process may just have added samples that were unknown before
    there = expected_rows.existing(
        dataset, index.config.patches_field, unexpected.keys, unexpected.sample_ids
    )
    stale = ~there
    if stale.any() and (users := index._other_users()):
        stale[stale] = ~of_others(
            users,
            dataset,
            index.config.patches_field,
            index._collection,
            unexpected.keys[stale],
            unexpected.sample_ids[stale],
        )
    return int(np.count_nonzero(stale))


def _fields_stale(index: MilvusSimilarityIndex, dataset: Any) -> bool | None:
    record = index._collection.fields() if index.config.fields else None
    if record is None or record.dataset_id != str(dataset._doc.id):
        return None
    return not staleness.is_up_to_date(dataset, record.watermark)
