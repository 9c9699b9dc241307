"""Compares index types on the vectors of an index."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fiftyone_milvus import metrics
from fiftyone_milvus.collection import (
    INDEXED_FROM,
    CollectionSpec,
    MilvusCollection,
    filters,
)
from fiftyone_milvus.collection.temporary import temporary
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import (
    ConnectionFailedError,
    EngineError,
    FiftyOneMilvusError,
    InvalidInputError,
)
from fiftyone_milvus.index.evaluation import check_approximate_k
from fiftyone_milvus.index.tuning import IndexTuning
from fiftyone_milvus.measuring import comparison, tuning
from fiftyone_milvus.measuring.comparison import Candidate, Compared, Comparison
from fiftyone_milvus.measuring.memory import index_size
from fiftyone_milvus.measuring.tuning import Queries, Trial
from fiftyone_milvus.numbers import check_integer, check_recall
from fiftyone_milvus.schema.index_types import FOR_RESULTS, search_parameter
from fiftyone_milvus.search.planner import Searcher, Trace
from fiftyone_milvus.writing.validation import Batch
from fiftyone_milvus.writing.writer import Writer

logger = logging.getLogger(__name__)

_PAGE_BYTES = 8 << 20


class IndexComparison(IndexTuning):
    """Measures other index types on the vectors of an index."""

    def compare(
        self,
        index_types: Any = None,
        k: int = 10,
        *,
        queries: int = 200,
        sample: int | None = None,
        recall: float | None = None,
        seed: int = 0,
        progress: Any = None,
    ) -> Comparison:
        """Builds each index type on the vectors of this index, and measures it.

        Each is built in a temporary collection, one after the other, in the Milvus of this index,
        which needs memory for a second copy of the vectors, or of the ``sample``. The temporary
        collections are dropped, also after an error. This index is not changed.

        Example::

            found = index.compare(["HNSW", ("HNSW", {"M": 32}), "IVF_SQ8"], recall=0.95)
            print(found)
            found.plot("index-types.png")

        Args:
            index_types (None): what to compare: index types, such as ``"HNSW"``; pairs of an index
                type and its build parameters; or dicts with ``index_type``, ``index_params`` and
                ``search_params``. By default, the useful ones among those that the engine offers
            k (10): how many neighbors to look for, at most all others
            queries (200): how many vectors to search for, at most all
            sample (None): how many vectors of this index to use, drawn at random; by default, all.
                A small sample has a better recall and latency than the whole
            recall (None): a recall to tune the search parameters of each index type to, as
                :meth:`tune` does, so that their latencies can be compared. By default, the search
                parameters are those given, or the defaults
            seed (0): of the draws
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, ``fiftyone.config.show_progress_bars`` decides

        Returns:
            a :class:`fiftyone_milvus.measuring.comparison.Comparison`. An index type that this
            engine does not offer, or can't build, has an ``error`` there

        Raises:
            InvalidInputError: if an argument can't be used, or the index has too few vectors: fewer
                than two, or so few that a server would build no index
            FiftyOneMilvusError: if Milvus can't be reached
        """
        k, queries = check_approximate_k(k), check_integer("queries", queries)
        target = None if recall is None else check_recall(recall)
        ids, drawn = self._draw("sample", queries if sample is None else sample, seed)
        if sample is not None:
            ids = [ids[i] for i in drawn]
        metric = self.config.metric
        candidates = comparison.candidates(
            index_types, self.connection, metric, len(ids), self._collection.layout.dimension
        )
        engine = self.connection.engine
        if len(ids) < 2 or (not engine.lite and len(ids) < INDEXED_FROM):
            raise InvalidInputError(
                f"Only {len(ids)} vectors to compare with; expected at least "
                f"{2 if engine.lite else INDEXED_FROM}, as Milvus builds no index for fewer"
            )
        k = min(k, len(ids) - 1)
        found = []
        with self._vectors(ids, progress) as vectors:
            sets: Sequence[Queries]
            if target is None:
                rng = np.random.default_rng(seed)
                rows = np.sort(rng.choice(len(ids), min(queries, len(ids)), replace=False))
                sets = [tuning.as_queries(self._collection, vectors, ids, rows, k, progress)]
            else:
                sets = tuning.draw(
                    self._collection, vectors, ids, k, queries, seed, progress=progress
                )
            for candidate in candidates:
                error = comparison.not_offered(candidate, self.connection, metric)
                if error is None:
                    found.append(self._measured(candidate, ids, sets, target, progress))
                else:
                    found.append(Compared(*candidate, error=error))
        return Comparison(
            rows=tuple(found),
            vectors=len(ids),
            dimension=self._collection.layout.dimension,
            metric=metric,
            k=k,
            queries=len(sets[-1].vectors),
            engine=engine.title,
            target=target,
        )

    def _measured(
        self,
        candidate: Candidate,
        ids: list[str],
        sets: Sequence[Queries],
        target: float | None,
        progress: Any,
    ) -> Compared:
        row = Compared(*candidate)
        try:
            with temporary(self.connection, self._owner, "index.compare()") as (other, owner):
                seconds = self._build(other, owner, candidate, ids, progress)
                size = index_size(other, len(ids))
                exact = other.is_scanned(len(ids))
                trial, reached = self._searched(other, candidate, sets, target, progress)
        except ConnectionFailedError:
            raise
        except FiftyOneMilvusError as error:
            logger.warning("%s could not be measured: %s", row.label, error)
            return dataclasses.replace(row, error=str(error))
        return dataclasses.replace(
            row,
            search_params=trial.params,
            recall=trial.recall,
            bound=1.0 if exact else trial.bound,
            p50=trial.p50,
            p95=trial.p95,
            build_seconds=seconds,
            bytes=size,
            reached=reached,
        )

    def _build(
        self,
        other: MilvusCollection,
        owner: dict[str, Any],
        candidate: Candidate,
        ids: list[str],
        progress: Any,
    ) -> float:
        """Fills a collection with vectors of this index; returns the seconds until it is built."""
        dimension = self._collection.layout.dimension
        metric_type = metrics.metric_type(self.config.metric)
        index_type, params = candidate.index_type, candidate.index_params
        other.create(CollectionSpec(dimension, metric_type, index_type, params, owner))
        other.wait_until_loaded()
        start = time.perf_counter()
        title = f"Uploading for {candidate.index_type}"
        with (
            ProgressBar(len(ids), title, show=True, progress=progress) as bar,
            Writer(other, replace=False, on_written=bar.update) as writer,
        ):
            size = max(1, _PAGE_BYTES // (4 * dimension))
            for rows in self._collection.fetch_pages(filters.batches(ids, size)):
                writer.add(Batch(rows.ids, rows.sample_ids, rows.vectors))
        indexed = other.wait_until_built(progress=progress)
        if not indexed and not other.is_scanned(len(ids)):
            raise EngineError(f"Milvus built no {candidate.index_type} index for {len(ids)} rows")
        return time.perf_counter() - start

    def _searched(
        self,
        other: MilvusCollection,
        candidate: Candidate,
        sets: Sequence[Queries],
        target: float | None,
        progress: Any,
    ) -> tuple[Trial, bool | None]:
        """Returns what searches find, and whether that reaches the target, if there is one."""

        def make(params: dict[str, Any], trace: Trace) -> Searcher:
            return Searcher(other, self.config.metric, params, trace=trace)

        given = candidate.search_params
        name = search_parameter(candidate.index_type)
        if target is None or name is None:
            trial = tuning.attempt(make, given, sets[-1], target, held_out=True, progress=progress)
            exact = other.is_scanned(other.count())
            return trial, None if target is None else exact or trial.reaches(target)
        others = {n: v for n, v in given.items() if n not in (name, FOR_RESULTS)}
        k, rows = sets[0].truth.k, len(sets[0].truth.vectors)
        values = tuning.candidates(candidate.index_type, k, rows, other.built().params)
        found = tuning.find(
            make, name, values, (sets[0], sets[1]), target, others, progress=progress
        )
        # As parameters of an index, they are for so many results
        chosen = {**found.best.params, FOR_RESULTS: k}
        return dataclasses.replace(found.best, params=chosen), found.reached
