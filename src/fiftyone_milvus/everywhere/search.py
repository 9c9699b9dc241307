"""Searches every index that a query fits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_milvus import metrics
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.dataset.availability import explain, needs_database
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import (
    CollectionNotFoundError,
    FiftyOneMilvusError,
    InvalidInputError,
    MissingIDsError,
)
from fiftyone_milvus.everywhere import queries
from fiftyone_milvus.everywhere.results import EverywhereResult, EverywhereResults, Skipped
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory import runs
from fiftyone_milvus.inventory.runs import Run
from fiftyone_milvus.inventory.status import ask
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.writing import validation

logger = logging.getLogger(__name__)

_SHOW_FROM = 10
_SAME = 1e-4


@needs_database
def search_everywhere(
    query: Any,
    k: int = 10,
    *,
    model: str | None = None,
    metric: str | None = None,
    datasets: str | Iterable[str] | None = None,
    brain_keys: str | Iterable[str] | None = None,
    progress: Any = None,
) -> EverywhereResults:
    """Finds the most similar samples and patches of all datasets of this FiftyOne database.

    Searches every Milvus index of this package that has the model and dimension of the query.
    Leaves out samples that were deleted from their dataset. Skips an index that can't be searched,
    for example because its Milvus does not answer, with a warning.

    Example::

        results = search_everywhere("a red car", k=20)
        session.view = results.view(results[0].dataset)

    Args:
        query: a text; the path of an image, as :class:`pathlib.Path` or as the name of an existing
            file; a vector of shape ``(num_dims,)``; or the ID of a sample or label in one of the
            indexes
        k (10): the number of results from all datasets together
        model (None): the name of the indexes' model, or ``"none"`` for those without; needed where
            indexes with different models fit. Indexes without a model count as having the same one;
            tell them apart by ``brain_keys``
        metric (None): the metric of the indexes; needed where indexes with different metrics fit,
            as their distances can't be compared
        datasets (None): the names of the datasets to search; by default, all
        brain_keys (None): the brain keys of the indexes to search; by default, all. Needed where
            an ID has different vectors in indexes without a model
        progress (None): whether to show a progress bar for many indexes. By default, as
            ``fiftyone.config.show_progress_bars`` says

    Returns:
        an :class:`EverywhereResults <fiftyone_milvus.everywhere.EverywhereResults>`

    Raises:
        InvalidInputError: if an argument can't be used, no index fits, or ``model``, ``metric`` or
            ``brain_keys`` is needed to choose
        MissingIDsError: if the query is an ID that is in none of the indexes
    """
    k = check_integer("k", k)
    if metric is not None:
        metrics.metric_type(metric)
    query, kind = queries.read(query)
    known = runs.read(datasets)
    if not known:
        raise InvalidInputError(
            "There is no Milvus index to search; make one with "
            'fiftyone.brain.compute_similarity(..., backend="milvus", brain_key=...)'
        )
    chosen = _of_model(_of_keys(known, brain_keys), model)
    search = _Search(progress)
    if kind in ("text", "image"):
        chosen = _with_model(chosen, prompts=kind == "text")
        opened = search.open(_of_metric(chosen, metric))
        if not opened:
            return EverywhereResults((), metric, chosen[0].model, (), tuple(search.skipped))
        vector = queries.embedded(query, kind, opened[0][1])
    elif kind == "id":
        holders = [(run, found) for run, found in search.holders(chosen, query)]
        _one("model", [run.model for run, _ in holders], f"'{query}' is in indexes")
        vector = _the_vector(query, holders)
        same = [run for run in chosen if run.model == holders[0][0].model]
        opened = search.open(_of_metric(same, metric))
    else:
        vector = query
        opened = search.open(_of_metric(chosen, metric))
    opened = search.of_dimension(opened, len(vector), strict=kind == "vector")
    _one("model", [run.model for run, _ in opened], f"Indexes of {len(vector)} dimensions are")
    _one("metric", [run.metric for run, _ in opened], "The indexes that fit are")
    return search.results(opened, vector, k)


class _Search:
    """The indexes that were opened or skipped by one search."""

    def __init__(self, progress: Any) -> None:
        self.skipped: list[Skipped] = []
        self._progress = progress
        self._errors: dict[Connection, str | None] = {}
        self._opened: dict[Run, MilvusSimilarityIndex | None] = {}
        self._dimensions: dict[Run, int] = {}

    def open(self, chosen: Sequence[Run]) -> list[tuple[Run, MilvusSimilarityIndex]]:
        """Returns the indexes that can be searched, and each collection of a dataset once."""
        found: dict[Any, tuple[Run, MilvusSimilarityIndex]] = {}
        for run in chosen:
            index = self._open(run)
            if index is not None:
                key = (run.dataset, id(index.connection), run.collection)
                found.setdefault(key, (run, index))
        return list(found.values())

    def holders(self, chosen: Sequence[Run], key: str) -> list[tuple[Run, Array]]:
        """Returns the indexes that have an ID, each with its vector there."""
        found = []
        for run, index in self.open(chosen):
            try:
                rows = index._collection.fetch([key])
            except FiftyOneMilvusError as error:
                # For example without the permission to read; another index may have the ID
                self._opened[run] = None
                self._skip(run, str(error))
                continue
            if rows.ids:
                found.append((run, rows.vectors[0]))
        if not found:
            raise MissingIDsError(
                f"ID '{key}' is in none of the {len(chosen)} Milvus indexes; add it with sync(), "
                f"or search by another query{self._and_skipped()}"
            )
        return found

    def of_dimension(
        self, opened: list[tuple[Run, MilvusSimilarityIndex]], dimension: int, *, strict: bool
    ) -> list[tuple[Run, MilvusSimilarityIndex]]:
        """Returns the indexes of a dimension; the others are skipped unless ``strict``."""
        found = [(run, index) for run, index in opened if self._dimensions[run] == dimension]
        others = {run: self._dimensions[run] for run, _ in opened}
        if strict and not found:
            raise InvalidInputError(
                f"No index has the {dimension} dimensions of the query; there are indexes of "
                f"{', '.join(map(str, sorted(set(others.values())))) or 'none'}"
                f"{self._and_skipped()}"
            )
        for run, size in others.items():
            if size != dimension and not strict:
                self._skip(run, f"it has {size} dimensions, not {dimension}")
        return found

    def results(
        self, opened: list[tuple[Run, MilvusSimilarityIndex]], vector: Array, k: int
    ) -> EverywhereResults:
        """Searches indexes, and returns the ``k`` nearest of all."""
        found: list[EverywhereResult] = []
        searched = []
        show = len(opened) >= _SHOW_FROM
        batch = validation.as_vectors(vector[None, :], "queries")
        for run, _ in opened[:1]:
            validation.check_values(batch, run.metric)
        with ProgressBar(
            len(opened), "Searching", show=show, what="indexes", progress=self._progress
        ) as bar:
            for run, index in opened:
                try:
                    found += _search(run, index, batch, k)
                    searched.append((run.dataset, run.brain_key))
                except FiftyOneMilvusError as error:
                    self._skip(run, str(error))
                bar.update(1)
        found.sort(key=lambda result: result.distance)
        fields = {(run.dataset, run.brain_key): index.config.patches_field for run, index in opened}
        first = opened[0][0] if opened else None
        return EverywhereResults(
            tuple(found[:k]),
            first.metric if first else None,
            first.model if first else runs.NO_MODEL,
            tuple(searched),
            tuple(self.skipped),
            fields,
        )

    def _open(self, run: Run) -> MilvusSimilarityIndex | None:
        if run not in self._opened:
            try:
                self._opened[run] = self._open_now(run)
            except Exception as error:
                if explain(error) is not None:
                    raise
                # A dataset may need packages that are not installed, or may just have been deleted
                self._opened[run] = None
                self._skip(run, " ".join(str(error).split()) or type(error).__name__)
        return self._opened[run]

    def _open_now(self, run: Run) -> MilvusSimilarityIndex:
        if not run.of_samples:
            raise InvalidInputError("it is of frames or clips, not of samples")
        index = open_index(fo.load_dataset(run.dataset), run.brain_key)
        connection = index.connection
        if connection not in self._errors:
            # Once for all indexes there, as it may take seconds
            self._errors[connection] = None
            try:
                ask(connection)
            except FiftyOneMilvusError as error:
                self._errors[connection] = str(error)
        reason = self._errors[connection]
        if reason is not None:
            raise InvalidInputError(reason)
        collection = index._collection
        try:
            # Does not load the collection, which may not fit
            layout = collection.describe()
        except CollectionNotFoundError:
            raise InvalidInputError(
                f"there is no {collection.where}: nothing was added yet, or it was dropped"
            ) from None
        if layout.index_type is None and layout.owner:
            layout = collection.layout  # ours, so the vector index is built again
        if layout.index_type is None:
            raise InvalidInputError(f"the {collection.where} has no vector index")
        self._dimensions[run] = layout.dimension
        return index

    def _skip(self, run: Run, reason: str) -> None:
        logger.warning("Index '%s' of dataset '%s': %s", run.brain_key, run.dataset, reason)
        self.skipped.append(Skipped(run.dataset, run.brain_key, reason))

    def _and_skipped(self) -> str:
        count = len(self.skipped)
        return f" ({count} could not be asked: {self.skipped[0].reason})" if count else ""


def _search(run: Run, index: MilvusSimilarityIndex, query: Array, k: int) -> list[EverywhereResult]:
    dataset = index.samples._root_dataset
    (found,) = index._searcher.nearest(query, k)
    scope = index._view_scope(dataset)
    if not scope.keep(found.ids, found.sample_ids).all():
        # Rows of deleted samples, or of another dataset in a shared collection
        (found,) = index._searcher.nearest(query, k, scope)
    ids, sample_ids, distances = index._with_samples(found)
    labels: Sequence[str | None] = ids if index._patches else [None] * len(ids)
    return [
        EverywhereResult(run.dataset, run.brain_key, sample, label, float(distance))
        for sample, label, distance in zip(sample_ids, labels, distances)
    ]


def _of_keys(known: list[Run], brain_keys: str | Iterable[str] | None) -> list[Run]:
    if brain_keys is None:
        return known
    several = isinstance(brain_keys, Iterable) and not isinstance(brain_keys, str)
    keys: list[Any] = list(brain_keys) if several else [brain_keys]
    if not keys or not all(isinstance(key, str) for key in keys):
        raise InvalidInputError(f"Invalid brain_keys {brain_keys!r}; expected brain keys")
    there = {run.brain_key for run in known}
    missing = [key for key in keys if key not in there]
    if missing:
        raise InvalidInputError(
            f"There is no Milvus index with brain key '{missing[0]}'; the brain keys are "
            f"{', '.join(map(repr, sorted(there)))}"
        )
    return [run for run in known if run.brain_key in keys]


def _the_vector(query: str, holders: list[tuple[Run, Array]]) -> Array:
    """Returns the vector of an ID; raises if it has several that no model distinguishes.

    With one model, all its vectors are in the same space.
    """
    first, vector = holders[0]
    if first.model == runs.NO_MODEL:
        margin = _SAME * float(np.abs(vector).max(initial=0.0))
        for other, its in holders[1:]:
            if its.shape != vector.shape or np.abs(its - vector).max(initial=0.0) > margin:
                raise InvalidInputError(
                    f"'{query}' has different vectors in the indexes '{first.brain_key}' of "
                    f"dataset '{first.dataset}' and '{other.brain_key}' of '{other.dataset}', "
                    "which have no model to tell them apart; say which with brain_keys="
                )
    return vector


def _of_model(known: list[Run], model: str | None) -> list[Run]:
    found = [run for run in known if model in (None, run.model)]
    if not found:
        raise InvalidInputError(
            f"No Milvus index has the model {model!r}; the models are {_listed(known)}"
        )
    return found


def _with_model(known: list[Run], *, prompts: bool) -> list[Run]:
    found = [run for run in known if run.model != runs.NO_MODEL and (run.prompts or not prompts)]
    if not found:
        what = "takes text" if prompts else "can embed an image"
        raise InvalidInputError(
            f"No Milvus index has a model that {what}; the models are {_listed(known)}; search by "
            "a vector or an ID"
        )
    _one("model", [run.model for run in found], "The indexes that fit are")
    return found


def _of_metric(known: list[Run], metric: str | None) -> list[Run]:
    found = [run for run in known if metric in (None, run.metric)]
    if not found:
        there = sorted({run.metric for run in known})
        raise InvalidInputError(
            f"No Milvus index that fits has the metric {metric!r}; their metrics are "
            f"{', '.join(map(repr, there))}"
        )
    return found


def _one(name: str, values: list[str], what: str) -> None:
    """Raises InvalidInputError if there are different values to choose from."""
    several = sorted(set(values))
    if len(several) > 1:
        raise InvalidInputError(
            f"{what} of different {name}s, {', '.join(map(repr, several))}; say which with {name}="
        )


def _listed(known: list[Run]) -> str:
    return ", ".join(map(repr, sorted({run.model for run in known})))
