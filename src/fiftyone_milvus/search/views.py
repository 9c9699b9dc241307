"""The rows of a FiftyOne view."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import Any

import fiftyone.core.patches as fop

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.internals import brain_utils as fbu
from fiftyone_milvus.search.scope import Facts, Scope

_VIEWS = 256


class ViewScope(Scope):
    """The samples, or the patches, of a view, in the view's order.

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
        super().__init__(expression, facts)
        self._view = view
        self._patches_field = patches_field

    def few(self, limit: int) -> bool:
        """Whether the view has at most ``limit`` IDs; if so, they have been read.

        For samples of a view that :func:`is_plain`, at most ``limit + 1`` IDs are read.

        Args:
            limit: the largest number of IDs
        """
        if not self.known and self._plain:
            found = object_ids.sample_ids(self._view, limit + 1)
            if len(found) > limit:
                return False
            self._store(dict(zip(found, found)))
        return super().few(limit)

    @property
    def _plain(self) -> bool:
        """Whether the keys are the IDs of the documents that the view's pipeline returns."""
        return self._patches_field is None and is_plain(self._view)

    def _read_rows(self) -> dict[str, str]:
        if self._plain:
            ids = object_ids.sample_ids(self._view)
            return dict(zip(ids, ids))
        return self._filtered(self._view)

    def _among(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Container[str]:
        if not isinstance(self._view, fop.PatchesView):
            return self._filtered(self._view.select(list(dict.fromkeys(sample_ids))))
        if self._patches_field is None:
            # The IDs of such a view are label IDs, and those of the rows are sample IDs
            return self.rows()
        return self._filtered(self._view.select(list(ids)))

    def _filtered(self, view: Any) -> dict[str, str]:
        sample_ids, label_ids, _, _ = fbu.filter_ids(
            view, None, None, patches_field=self._patches_field
        )
        # A patches view of a sample index names a sample once per patch, and a sample without a
        # label has the label ID None
        rows = dict(zip(sample_ids if label_ids is None else label_ids, sample_ids))
        rows.pop(None, None)
        return rows


class ViewFacts:
    """What searches learned about the last 256 views."""

    def __init__(self) -> None:
        self._facts: OrderedDict[str, Facts] = OrderedDict()

    def of(self, view: Any) -> Facts:
        """Returns the facts of a view.

        Args:
            view: a :class:`fiftyone.core.collections.SampleCollection`

        Returns:
            the :class:`Facts`, the same object for every view with equal stages; searches change
            it. A new one, if the view is not among the last 256
        """
        stages = json.dumps(view.view()._serialize(include_uuids=False), default=str)
        key = hashlib.blake2b(stages.encode(), digest_size=16).hexdigest()
        facts = self._facts.pop(key, None) or Facts()
        self._facts[key] = facts
        while len(self._facts) > _VIEWS:
            self._facts.popitem(last=False)
        return facts


def is_plain(view: Any) -> bool:
    """Whether a view's pipeline returns the documents of its dataset's samples.

    Args:
        view: a :class:`fiftyone.core.collections.SampleCollection`

    Returns:
        False for views of patches, clips, frames, groups or dynamic groups
    """
    return not (view._is_generated or view._is_dynamic_groups or view.media_type == "group")
