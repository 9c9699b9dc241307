"""A run of the built-in backend becomes one of ours, in place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import fiftyone.core.odm as foo
import numpy as np

from fiftyone_milvus import metrics
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    EmbeddedServiceError,
    InvalidInputError,
)
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import keys
from fiftyone_milvus.moving import builtin, repeated_keys, runs
from fiftyone_milvus.moving.lite_directory import borrowed
from fiftyone_milvus.moving.own_runs import open_at
from fiftyone_milvus.schema.layout import Layout
from fiftyone_milvus.syncing import difference, expected_rows

logger = logging.getLogger(__name__)

_BUILTIN_NAMES = "fiftyone_"
"""How the built-in starts the names that it chooses for its collections."""


@dataclass(frozen=True)
class Adopted:
    """What :func:`adopt` found and did.

    Attributes:
        brain_key: of the run
        collection: the name of the Milvus collection
        address: where that is, without credentials
        vectors: the exact number of vectors, one per key
        dimension: of the vectors
        repeated: how many rows repeated the key of another, and were removed
        missing: how many samples or patches of the dataset have no vector; ``sync()`` adds them
        stale: how many vectors are of no sample or patch of the dataset; ``sync()`` removes them
            if the collection is recorded as this run's
        owned: whether the collection is recorded as this run's now
        dropped: the names of what the run recorded and this package has no use for
        changed: False if the run was this package's already
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
        parts = [f"'{self.brain_key}' {what}: {self.vectors} vectors in '{self.collection}'"]
        for count, text in (
            (self.repeated, "repeated rows removed"),
            (self.missing, "samples without a vector"),
            (self.stale, "vectors of no sample"),
        ):
            if count:
                parts.append(f"{count} {text}")
        return ", ".join(parts)


def adopt(dataset: Any, brain_key: str, *, progress: Any = None, **credentials: Any) -> Adopted:
    """Makes a run of FiftyOne's built-in ``milvus`` backend one of this package, in place.

    Nothing is uploaded: the collection stays, and so does all that the run records. Rows that
    repeat a primary key, which the built-in leaves when vectors are added again, are reduced to
    one. Milvus does not tell which of them is the newest: if they may differ, call
    ``sync(refresh=True)`` afterwards.

    Everything is checked before anything is written, and the run is changed last, by one atomic
    update; so a call that fails or is interrupted leaves the run to the built-in, and can be
    repeated. :func:`revert` goes back.

    Other processes that have the dataset loaded see the change after ``dataset.reload()``.

    Example::

        from fiftyone_milvus import moving

        for key in moving.adoptable(dataset):
            print(moving.adopt(dataset, key))

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the run
        progress (None): whether to show progress bars, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says
        **credentials: where the collection is, as ``uri=``, ``token=``. By default, those that
            the run was loaded with in this process, else those of FiftyOne's brain config

    Returns:
        an :class:`Adopted`

    Raises:
        InvalidInputError: if there is no such run, or it is another backend's
        CollectionNotFoundError: if the collection is not there
        CollectionMismatchError: if its metric or dimension is not the run's
        EmbeddedServiceError: if another process holds the Milvus Lite directory
        FiftyOneMilvusError: if Milvus does not answer
    """
    document = runs.document(dataset, brain_key)
    if brain_key in keys(dataset):
        ours = open_at(dataset, brain_key, credentials)
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
    with borrowed(dataset, brain_key):
        return _adopt(dataset, brain_key, credentials, progress)


def _adopt(dataset: Any, brain_key: str, credentials: Mapping[str, Any], progress: Any) -> Adopted:
    index, dropped = builtin.as_ours(dataset, brain_key, credentials)
    collection = index._collection
    try:
        exists = collection.exists()
    except EmbeddedServiceError as error:
        raise builtin.explain_lock(error) from error
    if not exists:
        raise CollectionNotFoundError(
            f"There is no {collection.where}: it was dropped, or never filled, or is in another "
            "Milvus; pass uri=, or delete the brain run and make a new index"
        )
    layout = collection.describe()
    _check(index, layout)

    # Without a vector index, which the built-in may not have made, nothing can be read
    index.adopt()
    found = _tidy(index, progress)
    owned = _claim(index, layout, found.stale)
    adopted = replace(found, owned=owned, dropped=dropped)
    runs.rewrite(dataset, brain_key, index.config.serialize(), index.serialize())
    # With the credentials of this call, as compute_similarity() does
    runs.remember(dataset, brain_key, index)
    if dropped:
        logger.warning(
            "Brain run '%s' recorded parameters that this package does not have, which are gone "
            "now: %s",
            brain_key,
            ", ".join(dropped),
        )
    logger.info("%s", adopted)
    return adopted


def _tidy(index: MilvusSimilarityIndex, progress: Any) -> Adopted:
    """Leaves one row per key; returns what is in the collection then."""
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
            f"'{index.key}' records '{config.metric}'; it was made anew by somebody else, so make "
            "a new index"
        )
    dimension = _field_dimension(index._samples, config.embeddings_field, config.patches_field)
    if dimension not in (None, layout.dimension):
        raise CollectionMismatchError(
            f"The {where} has vectors of {layout.dimension} dimensions, but those in field "
            f"'{config.embeddings_field}' have {dimension}; make a new index from that field"
        )


def _field_dimension(samples: Any, path: str | None, patches_field: str | None) -> int | None:
    """Returns the dimension of one vector in a field of embeddings, if there is one."""
    if path is None or patches_field is not None or not samples.has_field(path):
        return None
    found = samples.exists(path).limit(1).values(path)
    return len(found[0]) if found else None


def _claim(index: MilvusSimilarityIndex, layout: Layout, stale: int) -> bool:
    """Records the collection as this run's, unless rows in it may be somebody else's.

    What is recorded is what allows sync() to remove rows.
    """
    collection, own = index._collection, index._owner
    if layout.owner.get("dataset_id") not in (None, own["dataset_id"]):
        why = f"it is recorded as that of dataset '{layout.owner.get('dataset')}'"
    elif _used_elsewhere(collection.name, index._samples._root_dataset):
        why = "runs of other datasets use it too"
    elif stale and not collection.name.startswith(_BUILTIN_NAMES):
        why = f"it was given by name, and {stale} of its vectors are of no sample here"
    else:
        if not layout.owner:
            collection.set_owner(own)
        return True
    logger.warning(
        "The %s is not recorded as that of '%s': %s. So sync() adds vectors but removes none",
        collection.where,
        index.key,
        why,
    )
    return False


def _used_elsewhere(name: str, dataset: Any) -> bool:
    query = {
        "config.method": "milvus",
        "config.collection_name": name,
        "_dataset_id": {"$ne": dataset._doc.id},
    }
    return foo.get_db_conn().runs.find_one(query, {"_id": 1}) is not None
