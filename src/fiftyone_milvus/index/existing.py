"""The rows of an index whose samples or labels are in the dataset."""

from __future__ import annotations

from typing import NamedTuple

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.selected import all_samples
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.syncing import expected_rows


class Existing(NamedTuple):
    """What an index has of its current view.

    Attributes:
        ids: the primary keys whose sample or label is in the dataset, in the order of the index
        stale: how many other rows there are
        no_embedding: how many samples or patches of the view are not in the index
    """

    ids: list[str]
    stale: int
    no_embedding: int


class IndexExisting(IndexBase):
    """Tells the rows that can be written about from those that were deleted."""

    def _existing(self) -> Existing:
        field, found = self.config.patches_field, self._current_ids()
        expected = _ids_of(self.view, field)
        there = expected
        if not there.issuperset(found):
            # Other slices of a grouped dataset, and frames, which are documents of their own
            there = expected | _ids_of(all_samples(self._samples._root_dataset), field)
        ids = [i for i in found if i in there]
        return Existing(ids, len(found) - len(ids), len(expected.difference(ids)))


def _ids_of(samples: object, patches_field: str | None) -> set[str]:
    return set(object_ids.to_strings(expected_rows.read(samples, patches_field).keys))
