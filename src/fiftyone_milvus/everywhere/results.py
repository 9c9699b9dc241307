"""The results of a search over all datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fiftyone as fo
import numpy as np

from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.search.results import SearchResults


class EverywhereResult(NamedTuple):
    """One sample or patch that a search found.

    Attributes:
        dataset: the name of its dataset
        brain_key: the brain key of the index that found it
        sample_id: the ID of the sample
        label_id: the ID of the label, or None if the index holds samples
        distance: the distance to the query; smaller is closer
    """

    dataset: str
    brain_key: str
    sample_id: str
    label_id: str | None
    distance: float


class Skipped(NamedTuple):
    """An index that could not be searched.

    Attributes:
        dataset: the name of its dataset
        brain_key: the brain key of its run
        reason: one line that says why
    """

    dataset: str
    brain_key: str
    reason: str


@dataclass(frozen=True)
class EverywhereResults(Sequence[EverywhereResult]):
    """The results of a search over all datasets: a sequence of :class:`EverywhereResult`.

    Nearest first; made by :func:`fiftyone_milvus.everywhere.search_everywhere`.

    Attributes:
        results: the results
        metric: the metric of the distances
        model: the name of the model of the indexes, or ``"none"``
        searched: the dataset and the brain key of each index that was searched
        skipped: the indexes that could not be searched
    """

    results: Sequence[EverywhereResult]
    metric: str | None
    model: str
    searched: Sequence[tuple[str, str]] = ()
    skipped: Sequence[Skipped] = ()
    _patches_fields: dict[tuple[str, str], str | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, item: Any) -> Any:
        return self.results[item]

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets that have results, nearest first."""
        return list(dict.fromkeys(result.dataset for result in self.results))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns each result as a dict that JSON can hold."""
        return [result._asdict() for result in self.results]

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold, with results, searched and skipped indexes."""
        return {
            "results": self.to_dicts(),
            "metric": self.metric,
            "model": self.model,
            "searched": [{"dataset": dataset, "brain_key": key} for dataset, key in self.searched],
            "skipped": [skipped._asdict() for skipped in self.skipped],
        }

    @needs_database
    def view(self, dataset: str | Any, brain_key: str | None = None) -> Any:
        """Returns the results of one dataset as a view, in their order.

        Args:
            dataset: a dataset, or its name
            brain_key (None): the brain key of the index whose results to show. By default, those of
                all indexes; with several, the view has samples without a filter on labels

        Returns:
            a :class:`fiftyone.core.view.DatasetView`; for one index, like
            :meth:`SearchResults.view() <fiftyone_milvus.search.results.SearchResults.view>`

        Raises:
            InvalidInputError: if there are no such results
        """
        name = dataset if isinstance(dataset, str) else getattr(dataset, "name", dataset)
        found = [r for r in self.results if r.dataset == name and brain_key in (None, r.brain_key)]
        if not found:
            index = "" if brain_key is None else f" from index '{brain_key}'"
            raise InvalidInputError(
                f"There are no results{index} in dataset '{name}'; there are some in "
                f"{', '.join(map(repr, self.datasets)) or 'none'}"
            )
        keys = {result.brain_key for result in found}
        patches = self._patches_fields[name, found[0].brain_key] if len(keys) == 1 else None
        sample_ids = [result.sample_id for result in found]
        return SearchResults(
            sample_ids if patches else list(dict.fromkeys(sample_ids)),
            [str(result.label_id) for result in found] if patches else None,
            np.array([result.distance for result in found]),
            fo.load_dataset(name) if isinstance(dataset, str) else dataset,
            patches,
        ).view()
