"""Finds search parameters that reach a recall."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from fiftyone_milvus.collection import EXACT
from fiftyone_milvus.index.evaluation import IndexEvaluation, check_approximate_k
from fiftyone_milvus.measuring import tuning
from fiftyone_milvus.measuring.recall import at_least
from fiftyone_milvus.measuring.tuning import Tuning
from fiftyone_milvus.numbers import check_flag, check_integer, check_recall
from fiftyone_milvus.schema import index_types
from fiftyone_milvus.search.planner import Searcher, Trace

logger = logging.getLogger(__name__)


class IndexTuning(IndexEvaluation):
    """Finds the cheapest search parameters that reach a recall."""

    def tune(
        self,
        recall: float = 0.99,
        k: int = 10,
        *,
        queries: int = 1000,
        seed: int = 0,
        store: bool = True,
        progress: Any = None,
    ) -> Tuning:
        """Finds the cheapest search parameters that reach a recall, and stores them with the run.

        That is ``ef`` for HNSW, ``nprobe`` for IVF and SCANN and ``search_list`` for DISKANN. Two
        sets of queries are drawn from the vectors of the index: one to choose the value, another to
        verify it. The recall counts as reached when its lower bound, with a confidence of 95 %,
        reaches it; if only the bound misses it, up to four times as many queries are asked. No
        number of them proves a recall of 1, so that is reached when all find everything. From then
        on, :meth:`search` and ``sort_by_similarity()`` use the value in place of your parameters,
        for up to ``k`` results. For more results it grows in proportion, up to the default; so tune
        with the largest ``k`` that you search with.

        Waits until everything that was added is sealed and indexed, as other rows are searched
        differently. Tune again when the index has grown a lot.

        Example::

            print(index.tune(recall=0.95, k=25))

        Args:
            recall (0.99): the share of the true ``k`` nearest to find, above 0 and at most 1
            k (10): how many results, at most all others
            queries (1000): how many vectors to search for in each set, at most half of all
            seed (0): of the draw
            store (True): whether to use the value from now on, and to store it with the brain run
                for every process that loads it; False only measures. An index without a brain key
                uses it as long as the object lives
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, ``fiftyone.config.show_progress_bars`` decides

        Returns:
            a :class:`fiftyone_milvus.measuring.tuning.Tuning`. If the target can't be reached, or
            there is nothing to tune, its ``note`` says so and nothing is stored

        Raises:
            InvalidInputError: if an argument can't be used, or the index has fewer than two vectors
            EngineError: if Milvus does not build the index
        """
        recall, k = check_recall(recall), check_approximate_k(k)
        queries = check_integer("queries", queries)
        store = check_flag("store", store)
        collection = self._collection
        indexed = collection.present() and collection.wait_until_built(progress=progress)
        ids, _ = self._draw("queries", queries, seed)
        k = min(k, len(ids) - 1)
        index_type = str(collection.layout.index_type)
        plain = Tuning(
            target=recall,
            k=k,
            reached=True,
            params={},
            stored=False,
            recall=1.0,
            bound=1.0,
            p50=None,
            p95=None,
            index_type=index_type,
            vectors=len(ids),
            queries=min(queries, len(ids) // 2),
        )
        if not indexed:
            return dataclasses.replace(plain, note=_exact(index_type, len(ids)))

        name = index_types.search_parameter(index_type)
        others = dict(self.config.search_params or {})
        others.pop(index_types.FOR_RESULTS, None)
        with self._vectors(ids, progress) as vectors:
            sets = tuning.draw(collection, vectors, ids, k, plain.queries, seed, progress=progress)
            if name is None:
                one = tuning.attempt(
                    self._with, others, sets[1], recall, held_out=True, progress=progress
                )
                found = tuning.Found([one], one, one.reaches(recall))
            else:
                others.pop(name, None)
                built = collection.built().params
                values = tuning.candidates(index_type, k, len(ids), built)
                found = tuning.find(
                    self._with, name, values, sets, recall, others, progress=progress
                )
        best = found.best
        measured = dataclasses.replace(
            plain,
            reached=found.reached,
            recall=best.recall,
            bound=best.bound,
            p50=best.p50,
            p95=best.p95,
            trials=tuple(found.trials),
        )
        if not found.reached:
            return dataclasses.replace(measured, note=tuning.advice(index_type, best, recall))
        if name is None:
            note = f"{index_type} takes no search parameter that could be tuned"
            return dataclasses.replace(measured, note=note)
        chosen = {**best.params, index_types.FOR_RESULTS: k}
        stored = store and self._use(chosen)
        note = f"{tuning.as_text(chosen)} reaches it with {best.recall:.4f}, {at_least(best.bound)}"
        note += ", stored with the brain run" if stored else ", in use" if store else ""
        return dataclasses.replace(measured, params=chosen, stored=stored, note=note)

    def _with(self, params: dict[str, Any], trace: Trace) -> Searcher:
        return Searcher(
            self._collection, self.config.metric, params, patches=self._patches, trace=trace
        )

    def _use(self, params: dict[str, Any]) -> bool:
        """Uses search parameters from now on; returns whether they are stored with the run."""
        before, self.config.search_params = self.config.search_params, params
        try:
            if self.key is None or self.key not in self.backend.list_runs(self.samples):
                return False
            self.save_config()
        except BaseException:
            self.config.search_params = before
            raise
        return True


def _exact(index_type: str, size: int) -> str:
    if index_type in EXACT:
        return f"{index_type} compares with every vector, which is exact: there is nothing to tune"
    return (
        f"Milvus builds no index for so few vectors as {size} and compares with all of them, which "
        "is exact: there is nothing to tune yet"
    )
