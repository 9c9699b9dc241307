"""An index is made from what there is, and unmade: for the App's plugin and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import fiftyone.brain as fob

from fiftyone_milvus import inventory, metrics
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.inventory import runs
from fiftyone_milvus.inventory.status import ask
from fiftyone_milvus.inventory.stored_index import open_index

PARTS = ("both", "run", "collection")
"""What can be deleted of an index."""


@dataclass(frozen=True)
class Created:
    """An index that was made.

    Attributes:
        brain_key: of the run
        vectors: how many it holds
        failed: the ID of each sample, or patch, without a vector, and the reason
    """

    brain_key: str
    vectors: int
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """What goes with the collection of an index.

    Attributes:
        brain_key: of the run
        collection: its name, or None if there is none
        vectors: how many it holds
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
        """Whether the vectors may be somebody else's too."""
        return bool(self.others) or not self.made_for_it

    def __str__(self) -> str:
        if self.collection is None:
            return f"index '{self.brain_key}' has no vectors"
        parts = [] if self.made_for_it else ["was not made for it"]
        if self.others:
            parts.append(f"{', '.join(self.others)} would lose too")
        where = f"collection '{self.collection}'"
        text = f"index '{self.brain_key}' has {self.vectors:,} vectors in {where}"
        return text + "".join(f", {'and ' * (at > 0)}which {p}" for at, p in enumerate(parts))


def key_problem(dataset: Any, key: Any) -> str | None:
    """Returns why a brain key can't be given to a new index, or None if it can."""
    if not isinstance(key, str) or not key:
        return "Give the index a brain key"
    if not key.isidentifier():
        return f"'{key}' is no brain key: expected letters, digits and underscores, no digit first"
    if key in dataset.list_brain_runs():
        return f"There is a brain run '{key}' already; choose another key, or delete that run"
    return None


def create(
    samples: Any,
    brain_key: str,
    *,
    model: str | None = None,
    embeddings_field: str | None = None,
    settings: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Created:
    """Makes an index with a model, of a field, or on an existing collection; or leaves nothing.

    What fails drops no collection that was there before, whoever made it. Where some samples can't
    be embedded, the index is made of the others.

    Args:
        samples: a dataset or view; for an existing collection, the dataset
        brain_key: of the new run
        model: the name of a zoo model to embed with
        embeddings_field: a field that holds embeddings. With neither, ``collection_name`` among the
            settings names a collection to connect to
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
    kwargs: dict[str, Any] = dict(settings)
    if embeddings_field is not None:
        kwargs["embeddings"] = embeddings_field
    else:
        kwargs["embeddings"] = False
        if model is not None:
            kwargs["model"] = model
        else:
            kwargs = {**_metric_of(kwargs), **kwargs}
    try:
        index = fob.compute_similarity(samples, backend="milvus", brain_key=brain_key, **kwargs)
        failed: Mapping[str, str] = {}
        if model is not None:
            failed = _fill(index, samples, options or {})
        return Created(brain_key, index.total_index_size, failed)
    except BaseException:
        _undo(dataset, brain_key)
        raise


def delete(dataset: Any, brain_key: str, part: str = "both") -> int:
    """Deletes an index: its brain run, its collection, or both.

    A collection goes even if others use it, or it was made for another: ask :func:`loss` first.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the index
        part ("both"): one of :data:`PARTS`

    Returns:
        how many vectors were deleted

    Raises:
        InvalidInputError: if there is no such index or part
        FiftyOneMilvusError: if Milvus does not answer; the run stays then
    """
    if part not in PARTS:
        raise InvalidInputError(f"Can't delete {part!r}; expected one of {PARTS}")
    index = open_index(dataset, brain_key)
    vectors = 0
    if part != "run":
        # First, so that a Milvus that is away leaves the run, and with it the way to try again
        if index._collection.exists():
            vectors = index.total_index_size
        index.cleanup()
    if part != "collection":
        dataset.delete_brain_run(brain_key)
    return vectors


def loss(dataset: Any, brain_key: str) -> Loss:
    """Returns what would be lost with the collection of an index.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the index

    Raises:
        InvalidInputError: if there is no such index
        FiftyOneMilvusError: if Milvus does not answer
    """
    index = open_index(dataset, brain_key)
    collection = index._collection
    # Soon, where it is silent
    ask(index.connection)
    if not collection.exists():
        return Loss(brain_key, None, 0)
    owner, own = collection.describe().owner, index._owner
    others = [
        f"'{run.brain_key}'" + f" of dataset '{run.dataset}'" * (run.dataset != dataset.name)
        for run in (*runs.read(), *runs.built_in_runs())
        if run.collection == collection.name
        and (run.dataset, run.brain_key) != (dataset.name, brain_key)
    ]
    return Loss(
        brain_key,
        collection.name,
        index.total_index_size,
        all(owner.get(name) == own[name] for name in ("dataset_id", "brain_key")),
        tuple(others),
    )


def _fill(index: Any, samples: Any, options: Mapping[str, Any]) -> Mapping[str, str]:
    synced = index.sync(samples, **options)
    # An index may be made again on the collection that it left, which has the others already
    if synced.failed and not (synced.added or synced.unchanged):
        reason = next(iter(synced.failed.values()))
        raise InvalidInputError(
            f"None of {len(synced.failed)} could be embedded, eg: {reason}; choose another "
            "model, or check the media"
        )
    failed: Mapping[str, str] = synced.failed
    return failed


def _metric_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metric of the collection that is connected to, as a setting."""
    name = settings.get("collection_name")
    if not name:
        raise InvalidInputError(
            "Nothing to index with; give a model, a field with embeddings, or the name of a "
            "collection that has the vectors (collection_name)"
        )
    connection = inventory.configured(settings.get("uri"))
    metric_type = MilvusCollection(connection, name).describe().metric_type
    metric = None if metric_type is None else metrics.metric_of(metric_type)
    return {} if metric is None else {"metric": metric}


def _undo(dataset: Any, key: str) -> None:
    """Leaves nothing of an index that could not be made."""
    if key not in dataset.list_brain_runs():
        return
    with suppress(FiftyOneMilvusError):
        # Only what this very call made: a record of the same owner may be of an earlier index
        open_index(dataset, key)._collection.discard()
    dataset.delete_brain_run(key)
