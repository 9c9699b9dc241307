"""Creates and deletes indexes, for the plugin and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import fiftyone.brain as fob

from fiftyone_milvus import inventory, metrics
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.errors import (
    CollectionDamagedError,
    FiftyOneMilvusError,
    InvalidInputError,
)
from fiftyone_milvus.inventory.network import network_problem
from fiftyone_milvus.inventory.status import ask
from fiftyone_milvus.inventory.stored_index import open_index

PARTS = ("both", "run", "collection")
"""The parts of an index that can be deleted."""


@dataclass(frozen=True)
class Created:
    """A new index.

    Attributes:
        brain_key: of the run
        vectors: how many it has
        failed: the reason for each ID of a sample or patch that could not be embedded
    """

    brain_key: str
    vectors: int
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """What is lost if the collection of an index is dropped.

    Attributes:
        brain_key: of the run
        collection: its name, or None if there is none
        vectors: how many it has
        made_for_it: whether the collection records that it was made for this index
        others: the other runs that use a collection of this name, as text
    """

    brain_key: str
    collection: str | None
    vectors: int
    made_for_it: bool = True
    others: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether the collection is, or may be, used by others."""
        return bool(self.others) or not self.made_for_it

    def __str__(self) -> str:
        if self.collection is None:
            return f"index '{self.brain_key}' has no vectors"
        text = f"index '{self.brain_key}' has {self.vectors:,} vectors in "
        text += f"collection '{self.collection}'"
        parts = [] if self.made_for_it else ["was not made for it"]
        if self.others:
            parts.append(f"is also used by {', '.join(self.others)}")
        return text + ", which " * bool(parts) + " and ".join(parts)


def key_problem(dataset: Any, key: Any) -> str | None:
    """Returns why a brain key can't be used for a new index, or None if it can."""
    if not isinstance(key, str) or not key:
        return "Give the index a brain key"
    if not key.isidentifier():
        return (
            f"Invalid brain key '{key}'; expected letters, digits and underscores, and no digit "
            "first"
        )
    if key in dataset.list_brain_runs():
        return f"Brain run '{key}' already exists; choose another key, or delete that run"
    return None


@needs_database
def create(
    samples: Any,
    brain_key: str,
    *,
    model: str | None = None,
    embeddings_field: str | None = None,
    settings: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Created:
    """Creates an index with a model, from a field, or on an existing collection.

    If it fails, neither run nor new collection is left; a collection that existed before stays. If
    only some samples can't be embedded, the index has the others.

    Args:
        samples: a dataset or view; for an existing collection, the dataset
        brain_key: of the new run
        model: the name of a zoo model to embed with
        embeddings_field: a field that holds embeddings. Without it and a model, the settings need
            ``collection_name``, the collection to connect to
        settings: parameters of :class:`fiftyone_milvus.backend.MilvusSimilarityConfig`
        options: parameters of :meth:`fiftyone_milvus.index.MilvusSimilarityIndex.sync`, for a model

    Raises:
        InvalidInputError: if the key, a parameter or an embedding can't be used
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    dataset = samples._root_dataset
    problem = key_problem(dataset, brain_key)
    if problem is not None:
        raise InvalidInputError(problem)
    if model is not None and embeddings_field is not None:
        raise InvalidInputError("Give a model or a field with embeddings, not both")
    kwargs: dict[str, Any] = {**settings, "embeddings": embeddings_field or False}
    if model is not None:
        kwargs["model"] = model
    elif not embeddings_field:
        kwargs = {**_metric_of(kwargs), **kwargs}
    try:
        index = fob.compute_similarity(samples, backend="milvus", brain_key=brain_key, **kwargs)
        failed: Mapping[str, str] = {}
        if model is not None:
            failed = _fill(index, samples, options or {})
        size = index.total_index_size
        if embeddings_field and not size:
            raise InvalidInputError(
                f"Field '{embeddings_field}' has no embeddings: 0 of {len(samples):,} samples have "
                "any; choose another field, or a model"
            )
        return Created(brain_key, size, failed)
    except BaseException as error:
        _undo(dataset, brain_key)
        reason = None if model is None else network_problem(error)
        if reason is not None:
            raise InvalidInputError(
                f"Model '{model}' could not be downloaded: {reason}; check the network, or choose "
                "a model that is installed"
            ) from error
        raise


@needs_database
def rename(dataset: Any, brain_key: str, new_key: str) -> None:
    """Gives an index another brain key.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the index
        new_key: its new one

    Raises:
        InvalidInputError: if there is no such index, or the new key can't be used
        FiftyOneMilvusError: if Milvus does not answer; then nothing is changed
    """
    index = open_index(dataset, brain_key)
    problem = key_problem(dataset, new_key)
    if problem is not None:
        raise InvalidInputError(problem)
    # FiftyOne would rename the run, and only warn that the collection has the old key
    ask(index.connection)
    dataset.rename_brain_run(brain_key, new_key)


@needs_database
def delete(dataset: Any, brain_key: str, part: str = "both") -> int:
    """Deletes an index: its brain run, its collection, or both.

    The collection is dropped even if it is shared: ask :func:`loss` first.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the index
        part ("both"): one of :data:`PARTS`

    Returns:
        how many vectors were deleted

    Raises:
        InvalidInputError: if there is no such index or part
        FiftyOneMilvusError: if Milvus does not answer; then the run stays
        FiftyOneDatabaseError: if FiftyOne's database does not answer; then both stay
    """
    if part not in PARTS:
        raise InvalidInputError(f"Can't delete {part!r}; expected one of {PARTS}")
    index = open_index(dataset, brain_key)
    vectors = 0
    database_id()  # if FiftyOne's database does not answer, nothing is deleted
    if part != "run":
        # First: if Milvus does not answer, the run stays, and the call can be repeated
        with suppress(CollectionDamagedError):
            if index._collection.exists() and not index._collection.is_alias():
                vectors = index.total_index_size
        index.cleanup(force=True)
    if part != "collection":
        dataset.delete_brain_run(brain_key)
    return vectors


@needs_database
def loss(dataset: Any, brain_key: str) -> Loss:
    """Returns what is lost if the collection of an index is dropped.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the index

    Raises:
        InvalidInputError: if there is no such index
        FiftyOneMilvusError: if Milvus does not answer
    """
    index = open_index(dataset, brain_key)
    collection = index._collection
    # Raises soon if Milvus does not answer; other calls retry
    ask(index.connection)
    if not collection.exists():
        return Loss(brain_key, None, 0)
    try:
        owner, vectors = collection.describe().owner, index.total_index_size
    except CollectionDamagedError:
        # It can't say for whom it was made; its vectors can't be used
        owner, vectors = index._owner, 0
    own = index._owner
    others = [
        f"'{user.brain_key}'" if user.dataset == dataset.name else str(user)
        for user in index._other_users()
    ]
    return Loss(
        brain_key,
        collection.name,
        vectors,
        all(owner.get(name) == own[name] for name in ("dataset_id", "brain_key")),
        tuple(others),
    )


def _fill(index: Any, samples: Any, options: Mapping[str, Any]) -> Mapping[str, str]:
    synced = index.sync(samples, **options)
    # The collection of a deleted run may already have the other samples
    if synced.failed and not (synced.added or synced.unchanged):
        reason = next(iter(synced.failed.values()))
        raise InvalidInputError(
            f"None of {len(synced.failed)} could be embedded, for example: {reason}; choose "
            "another model, or check the media"
        )
    return dict(synced.failed)


def _metric_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metric of the collection to connect to, as a setting."""
    name = settings.get("collection_name")
    if not name:
        raise InvalidInputError(
            "There is nothing to index; give a model, a field with embeddings, or the name of a "
            "collection with vectors (collection_name)"
        )
    connection = inventory.configured(settings.get("uri"))
    metric_type = MilvusCollection(connection, name).describe().metric_type
    metric = None if metric_type is None else metrics.metric_of(metric_type)
    return {} if metric is None else {"metric": metric}


def _undo(dataset: Any, key: str) -> None:
    if key not in dataset.list_brain_runs():
        return
    with suppress(FiftyOneMilvusError):
        # Only a collection that this call made: an earlier index may have had the same owner
        open_index(dataset, key)._collection.discard()
    dataset.delete_brain_run(key)
