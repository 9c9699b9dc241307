"""The rows of a FiftyOne view."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import bson
import fiftyone.core.patches as fop

from fiftyone_milvus.dataset import object_ids, repeatable
from fiftyone_milvus.dataset.internals import brain_utils as fbu
from fiftyone_milvus.dataset.kept_ids import KeptIds, ViewIds
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search.scope import Facts, Scope

_VIEWS = 256
_LONG = 20_000


class ViewScope(Scope):
    """The samples, or the patches, of a view, in the view's order.

    Their IDs are kept for the next search in an equal view, as long as nothing has changed.

    Args:
        view: a :class:`fiftyone.core.collections.SampleCollection`
        patches_field: the field of the patches, or None for samples
        expression: a Milvus expression that is true for the view's rows, and for no others of the
            dataset; None if there is none
        facts: what earlier searches in an equal view learned
        kept (None): where the IDs are kept; None to read them
    """

    def __init__(
        self,
        view: Any,
        patches_field: str | None = None,
        *,
        expression: str | None = None,
        facts: Facts | None = None,
        kept: KeptIds | None = None,
    ) -> None:
        super().__init__(expression, facts)
        self._view = view
        self._patches_field = patches_field
        self._kept = kept
        self._ids: ViewIds | None = None
        self._looked = kept is None
        self._proven = False  # whether a change of the rows that were read is noticed

    @property
    def known(self) -> bool:
        """Whether the rows are known without reading them."""
        self._look()
        return self._ids is not None or super().known

    @property
    def keeps(self) -> bool:
        """Whether rows that are read now are known to the next search too."""
        return self._kept is not None and self.facts.proven and self._source is not None

    def rows(self) -> dict[str, str]:
        """Returns the sample ID of each row by its primary key; reads all of them, once."""
        if self._rows is None:
            self._read()
            if self._rows is None:
                assert self._ids is not None
                self._rows = self._ids.as_dict()
        return self._rows

    def ids(self) -> list[str]:
        """Returns the primary keys of the rows; reads all of them, once."""
        keys = self.keys()
        return keys if isinstance(keys, list) else object_ids.to_strings(keys)

    def keys(self) -> list[str] | IdArray:
        """Returns the primary keys like :meth:`ids`, as an array where they are known as one."""
        self._read()
        return super().ids() if self._ids is None else self._ids.keys

    def few(self, limit: int) -> bool:
        """Whether the view has at most ``limit`` IDs; if so, they have been read.

        For samples of a view that :func:`is_plain`, at most ``limit + 1`` IDs are read.

        Args:
            limit: the largest number of IDs
        """
        if not self.known:
            if self._plain:
                return self._few_samples(limit)
            self._read()
        return (len(self._ids) if self._ids is not None else len(self.rows())) <= limit

    def keep(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Array:
        """Returns which of the given rows are in the view.

        It asks about these rows only, unless all rows of the view are known already.

        Args:
            ids: primary keys
            sample_ids: the sample of each

        Returns:
            a boolean array of the length of ``ids``
        """
        self._look()
        return super().keep(ids, sample_ids) if self._ids is None else self._ids.contain(ids)

    def take_over(self, older: ViewScope) -> None:
        """Uses the rows that an older scope of the view has read, if no change would be noticed.

        Rows of which a change can't be noticed stay until the index is reloaded, as FiftyOne
        defines it.
        """
        if not older._proven and not older.reused:
            self._take(older._ids)
            self._rows = older._rows

    @property
    def _plain(self) -> bool:
        """Whether the keys are the IDs of the documents that the view's pipeline returns."""
        return self._patches_field is None and is_plain(self._view)

    @cached_property
    def _source(self) -> Source | None:
        return source_of(self._view, self._patches_field)

    @property
    def _database(self) -> Any:
        return self._view._dataset._sample_collection.database

    def _look(self) -> None:
        """Takes the IDs that were kept, once."""
        if not self._looked:
            self._looked = True
            if self._kept and self._source is not None:
                self._take(self._kept.get(self._source.key, self._database))
                self.reused = self._ids is not None

    def _read(self) -> None:
        """Reads all IDs, once."""
        if not self.known:
            self._keeping(self._read_ids)

    def _keeping(self, read: Callable[[], ViewIds | None]) -> None:
        """Reads IDs, and keeps them where that is possible."""
        if self._kept is None or self._source is None:
            read()
        else:
            key, names = self._source
            self._proven = self._kept.read(key, self._database, names, read)
            self.facts.proven = self._proven

    def _read_ids(self) -> ViewIds | None:
        if self._plain:
            self._take(ViewIds.of_samples(object_ids.read(self._view)))
            return self._ids
        rows = self._filtered(self._view)
        self._store(rows)
        return ViewIds.of(rows)

    def _few_samples(self, limit: int) -> bool:
        def read() -> ViewIds | None:
            found = object_ids.read(self._view, limit + 1)
            self._take(None if len(found) > limit else ViewIds.of_samples(found))
            return self._ids

        self._keeping(read)
        return self._ids is not None

    def _take(self, ids: ViewIds | None) -> None:
        self._ids = ids
        if ids is not None:
            self.facts.size, self.facts.spent = len(ids), 0.0

    def _read_rows(self) -> dict[str, str]:
        return self.rows()

    def _among(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Container[str]:
        if self._plain:
            # A third of the time that FiftyOne's values() takes
            return set(object_ids.sample_ids(self._view.select(list(dict.fromkeys(sample_ids)))))
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


class Source(NamedTuple):
    """Where MongoDB finds the IDs of a view.

    Attributes:
        key: differs between views that may have other IDs
        collections: the names of the collections that they depend on
    """

    key: bytes
    collections: set[str]


def source_of(view: Any, patches_field: str | None) -> Source | None:
    """Returns where MongoDB finds the IDs of a view.

    Args:
        view: a :class:`fiftyone.core.collections.SampleCollection`
        patches_field: the field of the patches, or None for samples

    Returns:
        a :class:`Source`, or None if the view may have other IDs each time that it is read
    """
    if view._is_dynamic_groups:
        return None  # whichever sample MongoDB finds first stands for a group
    if any(_is_long(value) for stage in view.view()._stages for _, value in stage._kwargs()):
        return None  # FiftyOne takes longer to say which view it is than MongoDB to name its IDs
    pipeline = view._pipeline()
    names = repeatable.collections_of(pipeline)
    if names is None:
        return None
    dataset = view._dataset
    own = {dataset._sample_collection_name, dataset._frame_collection_name} - {None}
    path = None if patches_field is None else view._get_label_field_path(patches_field, "id")[1]
    said = {
        "collections": sorted(own | names),
        "kind": [type(view).__name__, view.media_type, view.group_slice, patches_field, path],
        "pipeline": pipeline,
    }
    return Source(hashlib.blake2b(bson.encode(said), digest_size=16).digest(), own | names)


def _is_long(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, dict)) and len(value) > _LONG


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
