"""A query is put to every index that could answer it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_milvus import metrics
from fiftyone_milvus.connection import Connection
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

    Searches every Milvus index of this package that is of the same model and dimension as the
    query. Samples that are no longer in their dataset don't count. An index that can't be searched,
    as its Milvus does not answer or its collection is gone, is left out with a warning.

    Example::

        results = search_everywhere("a red car", k=20)
        session.view = results.view(results[0].dataset)

    Args:
        query: a text; the path of an image, as :class:`pathlib.Path` or as a string that names an
            existing file; a ``num_dims`` vector; or the ID of a sample or label that is in one of
            the indexes
        k (10): how many results, of all datasets together
        model (None): the name of the indexes' model, ``"none"`` for those without; necessary where
            indexes of several could answer. Those without count as of one model, as nothing tells
            them apart; ``brain_keys`` does
        metric (None): the metric of the indexes; necessary where those that could answer have
            several, as distances compare within one only
        datasets (None): the names of the datasets to search in; by default, all
        brain_keys (None): the brain keys of the indexes to search; by default, all. Necessary
            where an ID has different vectors in indexes without a model
        progress (None): whether to show a progress bar over many indexes. By default, as
            ``fiftyone.config.show_progress_bars`` says

    Returns:
        an :class:`EverywhereResults <fiftyone_milvus.everywhere.EverywhereResults>`

    Raises:
        InvalidInputError: if an argument can't be used, no index could answer, or it takes
            ``model``, ``metric`` or ``brain_keys`` to say which should
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
    _one("metric", [run.metric for run, _ in opened], "The indexes that could answer are")
    return search.results(opened, vector, k)


class _Search:
    """What was opened, and what could not be."""

    def __init__(self, progress: Any) -> None:
        self.skipped: list[Skipped] = []
        self._progress = progress
        self._silent: dict[Connection, str | None] = {}
        self._opened: dict[Run, MilvusSimilarityIndex | None] = {}
        self._dimensions: dict[Run, int] = {}

    def open(self, wanted: Sequence[Run]) -> list[tuple[Run, MilvusSimilarityIndex]]:
        """Returns the indexes that can be searched, each collection of a dataset once."""
        found: dict[Any, tuple[Run, MilvusSimilarityIndex]] = {}
        for run in wanted:
            index = self._open(run)
            if index is not None:
                key = (run.dataset, id(index.connection), run.collection)
                found.setdefault(key, (run, index))
        return list(found.values())

    def holders(self, wanted: Sequence[Run], key: str) -> list[tuple[Run, Array]]:
        """Returns the indexes that have an ID, and its vector in each."""
        found = []
        for run, index in self.open(wanted):
            try:
                rows = index._collection.fetch([key])
            except FiftyOneMilvusError as error:
                # It may not be read, or not be loaded; another may have the ID
                self._opened[run] = None
                self._skip(run, str(error))
                continue
            if rows.ids:
                found.append((run, rows.vectors[0]))
        if not found:
            raise MissingIDsError(
                f"ID '{key}' is in none of the {len(wanted)} Milvus indexes; add it with sync(), "
                f"or search by another query{self._and_skipped()}"
            )
        return found

    def of_dimension(
        self, opened: list[tuple[Run, MilvusSimilarityIndex]], dimension: int, *, strict: bool
    ) -> list[tuple[Run, MilvusSimilarityIndex]]:
        """Returns the indexes of a dimension; the others are skipped unless ``strict``."""
        found, others = [], {}
        for run, index in opened:
            size = self._dimensions[run]
            if size == dimension:
                found.append((run, index))
            else:
                others[run] = size
        if strict:
            if not found:
                there = sorted(set(others.values()))
                raise InvalidInputError(
                    f"No index has {dimension} dimensions as the query; there are indexes of "
                    f"{', '.join(map(str, there)) or 'none'}{self._and_skipped()}"
                )
        else:
            for run, size in others.items():
                self._skip(run, f"it has {size} dimensions, not {dimension}")
        return found

    def results(
        self, opened: list[tuple[Run, MilvusSimilarityIndex]], vector: Array, k: int
    ) -> EverywhereResults:
        """Searches, and returns the best of all."""
        found: list[EverywhereResult] = []
        searched = []
        show = len(opened) >= _SHOW_FROM
        asked = validation.as_vectors(vector[None, :], "queries")
        for run, _ in opened[:1]:
            validation.check_values(asked, run.metric)
        with ProgressBar(
            len(opened), "Searching", show=show, what="indexes", progress=self._progress
        ) as bar:
            for run, index in opened:
                try:
                    found += _search(run, index, asked, k)
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
                self._opened[run] = self._opened_now(run)
            except Exception as error:
                # A dataset may need what is not installed here, or be deleted just now
                self._opened[run] = None
                self._skip(run, " ".join(str(error).split()) or type(error).__name__)
        return self._opened[run]

    def _opened_now(self, run: Run) -> MilvusSimilarityIndex:
        if not run.of_samples:
            raise InvalidInputError("it is of frames or clips, not of samples")
        index = open_index(fo.load_dataset(run.dataset), run.brain_key)
        connection = index.connection
        if connection not in self._silent:
            # Once for all indexes there, as it may take seconds
            try:
                ask(connection)
                self._silent[connection] = None
            except FiftyOneMilvusError as error:
                self._silent[connection] = str(error)
        silent = self._silent[connection]
        if silent is not None:
            raise InvalidInputError(silent)
        collection = index._collection
        try:
            # Which loads nothing: it may turn out that it can't answer
            layout = collection.describe()
        except CollectionNotFoundError:
            raise InvalidInputError(
                f"there is no {collection.where}: nothing was added yet, or it was dropped"
            ) from None
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


def _search(run: Run, index: MilvusSimilarityIndex, asked: Array, k: int) -> list[EverywhereResult]:
    dataset = index.samples._root_dataset
    (found,) = index._searcher.nearest(asked, k)
    scope = index._view_scope(dataset)
    if not scope.keep(found.ids, found.sample_ids).all():
        # Rows of samples that are gone, or of another dataset that shares the collection
        (found,) = index._searcher.nearest(asked, k, scope)
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
            f"There is no Milvus index with brain key '{missing[0]}'; there are some with "
            f"{', '.join(map(repr, sorted(there)))}"
        )
    return [run for run in known if run.brain_key in keys]


def _the_vector(query: str, holders: list[tuple[Run, Array]]) -> Array:
    """Returns the vector of an ID, unless it has several and no model says which of them belongs.

    Of one model, all are vectors of the same space.
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
            f"No Milvus index has the model {model!r}; there are indexes of {_listed(known)}"
        )
    return found


def _with_model(known: list[Run], *, prompts: bool) -> list[Run]:
    found = [run for run in known if run.model != runs.NO_MODEL and (run.prompts or not prompts)]
    if not found:
        what = "takes text" if prompts else "could embed an image"
        raise InvalidInputError(
            f"No Milvus index has a model that {what}; there are indexes of {_listed(known)}; "
            "search by a vector or an ID"
        )
    _one("model", [run.model for run in found], "The indexes that could answer are")
    return found


def _of_metric(known: list[Run], metric: str | None) -> list[Run]:
    found = [run for run in known if metric in (None, run.metric)]
    if not found:
        there = sorted({run.metric for run in known})
        raise InvalidInputError(
            f"No Milvus index that could answer has the metric {metric!r}; there are some of "
            f"{', '.join(map(repr, there))}"
        )
    return found


def _one(name: str, values: list[str], what: str) -> None:
    """Raises if there are several values to choose from."""
    several = sorted(set(values))
    if len(several) > 1:
        raise InvalidInputError(
            f"{what} of several {name}s, {', '.join(map(repr, several))}; say which with {name}="
        )


def _listed(known: list[Run]) -> str:
    return ", ".join(map(repr, sorted({run.model for run in known})))
