"""Where a user is in the App, and where they were before they searched.

The App shows the result of a search as a view. A search in that view would search the result only,
so a form must know what was searched before. A result is recognized by its last ordered ``Select``
stage, whose IDs :mod:`fiftyone_milvus.plugin.searches` remembers; so it is found again after the
App's page or server was started again. Results that other programs made, such as FiftyOne's own
panel, are recognized too: they select from what was searched.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import json_util
from fiftyone.operators.executor import ExecutionContext

_SELECT, _SORT = "fiftyone.core.stages.Select", "fiftyone.core.stages.SortBySimilarity"
_COUNT_SECONDS = 20
_COUNTS = 64

Stage = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Some samples, as the App can show them.

    Attributes:
        stages: stages of a view, as the App writes them
        name: the name of a saved view, if these are its stages
    """

    stages: Sequence[Stage] = ()
    name: str | None = None

    @classmethod
    def of(cls, ctx: Any) -> Place:
        """Returns what the App shows now."""
        bar, filters = cls.in_view_bar(ctx), _filters(ctx)
        return bar.filtered(ctx.dataset, filters) if filters else bar

    @classmethod
    def in_view_bar(cls, ctx: Any) -> Place:
        """Returns what the App would show without the filters of its sidebar."""
        name = ctx.request_params.get("view_name")
        if name is not None:
            return cls(_stages(ctx.dataset.load_saved_view(name)), name)
        return cls(tuple(ctx.request_params.get("view") or ()))

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Place:
        """Reads what :meth:`to_dict` returned."""
        return cls(tuple(d["stages"]), d["name"])

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold."""
        return {"stages": list(self.stages), "name": self.name}

    def filtered(self, dataset: Any, filters: Mapping[str, Any]) -> Place:
        """Returns its samples that filters of the sidebar keep, with stages in their place."""
        return Place(_stages(self._view(dataset, filters)))

    def selecting(self, ids: Sequence[str]) -> Place:
        """Returns only some of its samples."""
        stage = {"_cls": _SELECT, "kwargs": [["sample_ids", list(ids)], ["ordered", False]]}
        return Place((*self.stages, stage))

    def view(self, dataset: Any) -> Any:
        """Returns its samples: a :class:`fiftyone.core.view.DatasetView`."""
        return self._view(dataset, {})

    def _view(self, dataset: Any, filters: Mapping[str, Any]) -> Any:
        request = {"dataset_name": dataset.name, "view": list(self.stages), **filters}
        return ExecutionContext(request).view

    def count(self, dataset: Any) -> int:
        """Returns the number of its samples, which may be some seconds old.

        The App resolves a form at each keystroke, and a filter may take a second to count.
        """
        if not self.stages:
            return int(dataset.count())
        key = (str(dataset._doc.id), digest(list(self.stages)))
        now = time.monotonic()
        if key not in _counts or _counts[key][0] < now - _COUNT_SECONDS:
            while len(_counts) >= _COUNTS:
                _counts.pop(next(iter(_counts)), None)
            _counts[key] = (now, self.view(dataset).count())
        return _counts[key][1]

    def show(self, ctx: Any) -> Any:
        """Returns the call that makes the App show it."""
        # FiftyOne's own set_view() takes no empty view
        saved = self.name is not None and ctx.dataset.has_saved_view(self.name)
        named = {"name": self.name} if saved else {"view": list(self.stages)}
        return ctx.trigger("set_view", named)


_counts: dict[tuple[str, str], tuple[float, int]] = {}


@dataclass(frozen=True)
class Shown:
    """What the App shows, and where it comes from.

    Attributes:
        place: what it shows
        result: whether that is the result of a search, perhaps filtered
        searched: what the next search searches by default: for a result, what that was searched
            in, with the filters that the sidebar has now; otherwise, what is shown
        before: where the user was before the first search; for other views, what is shown
    """

    place: Place
    result: bool
    searched: Place
    before: Place


def shown(ctx: Any, left: tuple[Place, Place] | None) -> Shown:
    """Returns what the App shows, and where that comes from.

    Args:
        ctx: the execution context
        left: what was searched for a result that is remembered, and where the user was before
    """
    place, bar = Place.of(ctx), Place.in_view_bar(ctx)
    at = selected_at(bar.stages)
    if at is None:
        return Shown(place, False, place, place)
    below = Place(bar.stages[:at])
    searched, before = left or (below, below)
    if at + 1 < len(bar.stages):
        # The user has gone on from the result on purpose
        searched = place
    elif filters := _filters(ctx):
        searched = searched.filtered(ctx.dataset, filters)
    return Shown(place, True, searched, before)


def selected_at(stages: Sequence[Stage]) -> int | None:
    """Returns the position of the last stage that holds the result of a search, if there is one."""
    for at in reversed(range(len(stages))):
        name = stages[at].get("_cls")
        if name == _SORT or (name == _SELECT and _arguments(stages[at]).get("ordered")):
            return at
    return None


def selected_ids(stage: Stage) -> list[str]:
    """Returns the IDs that a stage selects, in their order."""
    ids = _arguments(stage).get("sample_ids") or []
    return [ids] if isinstance(ids, str) else [str(i) for i in ids]


def digest(value: Any) -> str:
    """Returns a short digest of a value of JSON types."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _filters(ctx: Any) -> dict[str, Any]:
    """Returns the filters of the sidebar, and what is selected in a plot."""
    return {n: ctx.request_params[n] for n in ("filters", "extended") if ctx.request_params.get(n)}


def _arguments(stage: Stage) -> dict[str, Any]:
    return dict(stage.get("kwargs") or ())


def _stages(view: Any) -> tuple[Stage, ...]:
    return tuple(json.loads(json_util.dumps(view._serialize())))
