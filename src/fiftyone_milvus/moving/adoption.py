"""Adopts a run of the built-in backend: makes it one of this package, in place."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fiftyone_milvus import metrics
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.users import users
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    EmbeddedServiceError,
    InvalidInputError,
)
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import keys
from fiftyone_milvus.moving import builtin, repeated_keys, runs
from fiftyone_milvus.moving.lite_directory import used_exclusively
from fiftyone_milvus.schema.layout import Layout
from fiftyone_milvus.syncing import difference, expected_rows

logger = logging.getLogger(__name__)

_BUILTIN_NAMES = "fiftyone_"
"""The start of collection names that the built-in backend chooses."""


@dataclass(frozen=True)
class Adopted:
    """What :func:`adopt` found and did.

    Attributes:
        brain_key: the brain key of the run
        collection: the name of the Milvus collection
        address: the address of the Milvus, without credentials
        vectors: the exact number of vectors, one for each key
        dimension: the dimension of the vectors
        repeated: the number of removed rows that repeated the key of another row
        missing: the number of samples or patches without a vector; ``sync()`` adds them
        stale: the number of vectors without a sample or patch in the dataset; ``sync()`` removes
            them if the collection is owned
        owned: whether the collection is now recorded as that of this run
        dropped: the names of recorded parameters that this package does not have
        changed: False if the run already was one of this package
    """

    brain_key: str
    collection: str
    address: str
    vectors: int
    dimension: int
    repeated: int = 0
    missing: int = 0
    stale: int = 0
    owned: bool = True
    dropped: tuple[str, ...] = ()
    changed: bool = True

    def __str__(self) -> str:
        what = "adopted" if self.changed else "was adopted already"
        counts = (
            (self.repeated, "repeated rows removed"),
            (self.missing, "samples without a vector"),
            (self.stale, "vectors without a sample"),
        )
        said = "".join(f", {count} {text}" for count, text in counts if count)
        return f"'{self.brain_key}' {what}: {self.vectors} vectors in '{self.collection}'{said}"


@needs_database
def adopt(dataset: Any, brain_key: str, *, progress: Any = None, **credentials: Any) -> Adopted:
    """Makes a run of FiftyOne's built-in ``milvus`` backend one of this package, in place.

    Nothing is uploaded: the collection and the run's parameters stay. Of rows that repeat a primary
    key, which the built-in backend leaves when vectors are added again, one is kept. Milvus does
    not tell which is the newest: if they may differ, call ``sync(refresh=True)`` afterwards.

    Everything is checked before anything is written, and one atomic update changes the run at the
    end. So a call that fails or is interrupted leaves the run to the built-in backend, and can be
    repeated. :func:`revert` goes back.

    Other processes that have the dataset loaded see the change after ``dataset.reload()``.

    Example::

        from fiftyone_milvus import moving

        for key in moving.adoptable(dataset):
            print(moving.adopt(dataset, key))

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: the brain key of the run
        progress (None): whether to show progress bars, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says
        **credentials: the address of the collection, such as ``uri=`` and ``token=``. By default,
            those that the run was loaded with in this process, else those of FiftyOne's brain
            config

    Returns:
        an :class:`Adopted`

    Raises:
        InvalidInputError: if there is no such run, or it is of another backend
        CollectionNotFoundError: if the collection does not exist
        CollectionMismatchError: if its metric or dimension is not that of the run
        EmbeddedServiceError: if another process has the Milvus Lite directory open
        FiftyOneMilvusError: if Milvus does not answer
    """
    runs.check_dataset(dataset)
    document = runs.document(dataset, brain_key)
    if brain_key in keys(dataset):
        ours = builtin.open_run(dataset, brain_key, credentials)
        found = replace(_tidy(ours, progress), owned=ours._owned(), changed=False)
        if builtin.given(credentials):
            runs.remember(dataset, brain_key, ours)
        return found
    if not builtin.is_builtin(document):
        raise InvalidInputError(
            f"Brain run '{brain_key}' of dataset '{dataset.name}' is of "
            f"{document.config.get('cls')}, not of the built-in milvus backend; move its vectors "
            "with migrate()"
        )
    with used_exclusively(dataset, brain_key):
        index, dropped = builtin.as_ours(dataset, brain_key, credentials)
        collection = index._collection
        try:
            exists = collection.exists()
        except EmbeddedServiceError as error:
            raise builtin.explain_lock(error) from error
        if not exists:
            raise CollectionNotFoundError(
                f"There is no {collection.where}: it was dropped, or never filled, or is in "
                "another Milvus; pass uri=, or delete the brain run and make a new index"
            )
        layout = collection.describe()
        _check(index, layout)

        # The built-in may not have made a vector index, without which nothing can be read
        index.adopt()
        found = _tidy(index, progress)
        owned = _claim(index, layout, found.stale)
        adopted = replace(found, owned=owned, dropped=dropped)
        runs.rewrite(dataset, brain_key, index.config.serialize(), index.serialize())
        # With the credentials of this call, as compute_similarity() does
        runs.remember(dataset, brain_key, index)
    if dropped:
        logger.warning(
            "Removed parameters of brain run '%s' that this package does not have: %s",
            brain_key,
            ", ".join(dropped),
        )
    logger.info("%s", adopted)
    return adopted


def _tidy(index: MilvusSimilarityIndex, progress: Any) -> Adopted:
    """Leaves one row for each key; returns what the collection has then."""
    collection = index._collection
    asked = expected_rows.read(index._samples, index.config.patches_field)
    found = difference.compare(collection, asked, patches=index._patches)
    stale = len(found.unexpected)
    distinct = int(np.count_nonzero(found.present)) + stale
    return Adopted(
        brain_key=str(index.key),
        collection=collection.name,
        address=index.connection.target.address,
        vectors=distinct,
        dimension=collection.layout.dimension,
        repeated=repeated_keys.repair(collection, distinct, progress=progress),
        missing=int(np.count_nonzero(~found.present)),
        stale=stale,
    )


def _check(index: MilvusSimilarityIndex, layout: Layout) -> None:
    config, where = index.config, index._collection.where
    if layout.metric_type not in (None, metrics.metric_type(config.metric)):
        raise CollectionMismatchError(
            f"The {where} is indexed for metric "
            f"'{metrics.metric_of(str(layout.metric_type)) or layout.metric_type}', but the run "
            f"'{index.key}' records '{config.metric}': another program made the collection again; "
            "make a new index"
        )
    dimension = _field_dimension(index._samples, config.embeddings_field, config.patches_field)
    if dimension not in (None, layout.dimension):
        raise CollectionMismatchError(
            f"The {where} has vectors of {layout.dimension} dimensions, but those in field "
            f"'{config.embeddings_field}' have {dimension}; make a new index from that field"
        )


def _field_dimension(samples: Any, path: str | None, patches_field: str | None) -> int | None:
    """Returns the dimension of the vectors in a field of embeddings, or None if it has none."""
    if path is None or patches_field is not None or not samples.has_field(path):
        return None
    found = samples.exists(path).limit(1).values(path)
    return len(found[0]) if found else None


def _claim(index: MilvusSimilarityIndex, layout: Layout, stale: int) -> bool:
    """Records a run as the owner of its collection, which allows sync() to remove rows.

    Not where other datasets may have rows in it.
    """
    collection, own = index._collection, index._owner
    if layout.owner.get("dataset_id") not in (None, own["dataset_id"]):
        why = f"it is recorded as that of dataset '{layout.owner.get('dataset')}'"
    elif any(user.dataset_id != own["dataset_id"] for user in users([collection.name])):
        why = "runs of other datasets use it too"
    elif stale and not collection.name.startswith(_BUILTIN_NAMES):
        why = f"it was given by name, and {stale} of its vectors are of no sample of the dataset"
    else:
        if not layout.owner:
            collection.set_owner(own)
        return True
    logger.warning(
        "The %s is not recorded as that of '%s': %s. sync() will add vectors, but remove none",
        collection.where,
        index.key,
        why,
    )
    return False
