"""The results of a search, for Python and as a FiftyOne view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, overload

import fiftyone.core.patches as fop
import fiftyone.core.stages as fos
from bson import ObjectId
from fiftyone import ViewField

from fiftyone_milvus.dataset import limits
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_text
from fiftyone_milvus.search import presentation, stored_distances


class SearchResult(NamedTuple):
    """One sample or patch that a search found.

    Attributes:
        sample_id: the ID of the sample
        label_id: the ID of the label, or None if the index holds no patches
        distance: the distance to the query; smaller is closer
    """

    sample_id: str
    label_id: str | None
    distance: float


@dataclass(frozen=True, eq=False, repr=False)
class SearchResults(Sequence[SearchResult]):
    """The results of a search, the best first: a sequence of :class:`SearchResult`.

    :meth:`MilvusSimilarityIndex.search()
    <fiftyone_milvus.index.MilvusSimilarityIndex.search>` returns them. They are printed as a
    table, and notebooks show them with thumbnails.

    Attributes:
        sample_ids: the sample ID of each result
        label_ids: the label ID of each, or None if the index holds no patches
        distances: a float64 array of the same length, ascending; descending if the least similar
            were asked for; in the order of the results if they are diverse
    """

    sample_ids: list[str]
    label_ids: list[str] | None
    distances: Array
    _samples: Any = field(default=None)
    _patches_field: str | None = field(default=None)

    @property
    def ids(self) -> list[str]:
        """The primary keys in Milvus: the label IDs of patches, else the sample IDs."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    def __len__(self) -> int:
        return len(self.sample_ids)

    @overload
    def __getitem__(self, item: int) -> SearchResult: ...

    @overload
    def __getitem__(self, item: slice) -> SearchResults: ...

    def __getitem__(self, item: int | slice) -> SearchResult | SearchResults:
        samples, distances = self.sample_ids[item], self.distances[item]
        labels: Any = None if self.label_ids is None else self.label_ids[item]
        if isinstance(samples, str):
            return SearchResult(samples, labels, float(distances))
        return replace(self, sample_ids=samples, label_ids=labels, distances=distances)

    def __repr__(self) -> str:
        return self._title() if not len(self) else f"{self._title()}\n{presentation.table(self)}"

    def _repr_html_(self) -> str:
        return presentation.gallery(self, self._title())

    @needs_database
    def to_pandas(self) -> Any:
        """Returns the results as a ``pandas.DataFrame``, the best first.

        Its columns are ``distance``, ``sample_id``, ``label_id`` if these are patches, and
        ``filepath``.
        """
        import pandas as pd

        return pd.DataFrame(presentation.columns(self))

    def _title(self) -> str:
        what = "samples" if self.label_ids is None else "patches"
        if not len(self):
            return f"{type(self).__name__}(no {what})"
        first = self.distances[0]
        last = self.distances.max() if first <= self.distances[-1] else self.distances.min()
        return f"{type(self).__name__}({len(self)} {what}, distances {first:.4g} to {last:.4g})"

    @needs_database
    def view(self, dist_field: str | None = None) -> Any:
        """Returns the results as a view, in their order.

        The view is like that of ``sort_by_similarity()``. It has the samples that were found, or
        the patches if a patches view was searched. If samples were searched for patches, it has
        the samples with the labels that were found, in the order of their first result.

        Args:
            dist_field (None): the name of a float field in which to store the distance of each
                result, on the labels if these are patches. The field is created if necessary

        Returns:
            a :class:`fiftyone.core.view.DatasetView`

        Raises:
            InvalidInputError: if ``dist_field`` is no name, or there are more results than a view
                can hold, about 420,000
        """
        dist_field = check_text("dist_field", dist_field, what="the name of a field")
        samples, name = self._samples, self._patches_field
        selected, filtered = shown(samples, self.sample_ids, self.label_ids)
        limits.check_results(samples, len(selected), len(filtered))
        if dist_field is not None:
            self.store(dist_field)
        view = samples.add_stage(fos.Select(selected, ordered=True))
        if self.label_ids is not None and not isinstance(samples, fop.PatchesView):
            found = ViewField("_id").is_in([ObjectId(i) for i in filtered])
            view = view.add_stage(fos.FilterLabels(name, found))
        return view

    def store(self, dist_field: str) -> None:
        """Stores the distance of each result in a float field, without a view; see :meth:`view`.

        It is no edit: metadata fields stay up to date.
        """
        distances, name = self.distances.tolist(), str(self._patches_field)
        if not distances:
            return
        if self.label_ids is None or isinstance(self._samples, fop.PatchesView):
            stored_distances.store(self._samples, dist_field, self.ids, distances)
        else:
            stored_distances.store_on_labels(
                self._samples, name, dist_field, self.sample_ids, self.label_ids, distances
            )


def shown(
    samples: Any, sample_ids: list[str], label_ids: list[str] | None
) -> tuple[list[str], list[str]]:
    """Returns the IDs that a view of results selects, and the label IDs that it filters by.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        sample_ids: the sample ID of each result
        label_ids: the label ID of each result, or None if the index holds no patches

    Returns:
        two lists, each in the order of the results: the IDs of the samples, or of the patches if
        ``samples`` is a patches view; and the label IDs, which are empty if nothing is filtered
    """
    if label_ids is None:
        return sample_ids, []
    if isinstance(samples, fop.PatchesView):
        return label_ids, []
    return list(dict.fromkeys(sample_ids)), label_ids
