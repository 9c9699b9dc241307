"""A FiftyOne view as the scope of a search."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import fiftyone.core.patches as fop
import numpy as np

from fiftyone_milvus.collection.filters import Facts
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.internals import brain_utils as fbu
from fiftyone_milvus.metrics import Array

_VIEWS = 256


class ViewScope:
    """The samples, or the patches, of a view.

    Args:
        view: a :class:`fiftyone.core.collections.SampleCollection`
        patches_field: the field of the patches, or None for samples
        expression: a Milvus expression that is true for the view's rows, and for no others of the
            dataset; None if there is none
        facts: what earlier searches in an equal view learned
    """

    def __init__(
        self,
        view: Any,
        patches_field: str | None = None,
        *,
        expression: str | None = None,
        facts: Facts | None = None,
    ) -> None:
        self._view = view
        self._patches_field = patches_field
        self._ids: list[str] | None = None
        self._sample_ids: list[str] = []
        self._set: set[str] | None = None
        self.expression = expression
        self.facts = facts or Facts()

    @property
    def known(self) -> bool:
        """Whether the view's IDs have been read already."""
        return self._ids is not None

    def ids(self) -> Sequence[str]:
        """Returns the view's sample IDs, or its label IDs for patches, in the view's order."""
        return self.pairs()[0]

    def pairs(self) -> tuple[list[str], list[str]]:
        """Returns the view's primary keys and the sample ID of each."""
        if self._ids is None:
            if self._plain:
                self._store(object_ids.sample_ids(self._view), None)
            else:
                self._store(*self._read(self._view))
        assert self._ids is not None
        return self._ids, self._sample_ids

    def few(self, limit: int) -> bool:
        """Whether the view has at most ``limit`` IDs; reads no more than it needs to tell."""
        if self._ids is None and self._plain:
            found = object_ids.sample_ids(self._view, limit + 1)
            if len(found) > limit:
                return False
            self._store(found, None)
        return len(self.ids()) <= limit

    def keep(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Array:
        """Returns which of the given rows are in the view, as a boolean array.

        Asks MongoDB about these rows only, unless the view's IDs were read already.
        """
        if self._set is None:
            narrowed = None if self.known else self._narrowed(ids, sample_ids)
            if narrowed is None:
                self._set = set(self.ids())
            else:
                found_samples, found_labels = self._read(narrowed)
                found = set(found_samples if found_labels is None else found_labels)
                return np.fromiter((i in found for i in ids), dtype=bool, count=len(ids))
        return np.fromiter((i in self._set for i in ids), dtype=bool, count=len(ids))

    @property
    def _plain(self) -> bool:
        """Whether the keys are the IDs of the documents that the view's pipeline returns."""
        return self._patches_field is None and is_plain(self._view)

    def _store(self, sample_ids: list[str], label_ids: list[str] | None) -> None:
        # A patches view of a sample index names a sample once per patch, and a sample without a
        # label has the label ID None
        pairs = dict(zip(sample_ids if label_ids is None else label_ids, sample_ids))
        pairs.pop(None, None)  # type: ignore[call-overload]
        self._ids, self._sample_ids = list(pairs), list(pairs.values())
        self.facts.size = len(pairs)

    def _narrowed(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Any:
        """Returns the view, limited to what may contain the rows; None if it can't be."""
        if isinstance(self._view, fop.PatchesView):
            # Its own IDs are label IDs, whichever field they are of
            return self._view.select(list(ids)) if self._patches_field is not None else None
        return self._view.select(list(dict.fromkeys(sample_ids)))

    def _read(self, view: Any) -> tuple[list[str], list[str] | None]:
        sample_ids, label_ids, _, _ = fbu.filter_ids(
            view, None, None, patches_field=self._patches_field
        )
        return list(sample_ids), None if label_ids is None else list(label_ids)


class ViewFacts:
    """What was learned about the views that were searched last."""

    def __init__(self) -> None:
        self._facts: OrderedDict[str, Facts] = OrderedDict()

    def of(self, view: Any) -> Facts:
        """Returns the facts of a view, the same object for every equal view."""
        stages = json.dumps(view.view()._serialize(include_uuids=False), default=str)
        key = hashlib.blake2b(stages.encode(), digest_size=16).hexdigest()
        facts = self._facts.pop(key, None) or Facts()
        self._facts[key] = facts
        while len(self._facts) > _VIEWS:
            self._facts.popitem(last=False)
        return facts


def is_plain(view: Any) -> bool:
    """Whether a view's pipeline returns the documents of its dataset's samples."""
    return not (view._is_generated or view._is_dynamic_groups or view.media_type == "group")
