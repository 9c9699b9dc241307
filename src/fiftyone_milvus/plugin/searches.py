"""The recent searches of a dataset, which FiftyOne's execution store keeps.

For each: how to repeat it, which samples it found first, and where the user was. No vectors and no
credentials are kept. FiftyOne deletes them with the dataset.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fiftyone.operators.store import ExecutionStore

from fiftyone_milvus.plugin import places
from fiftyone_milvus.plugin.places import Place, Shown

STORE = "fiftyone_milvus_searches"

KEPT = 10
"""The most searches of a dataset that are kept."""

MAX_BYTES = 2_000_000
"""The largest search that is kept; a larger image or view must be given again."""

_REPEATED = "-search-"
"""In the keys of searches that can be repeated."""

PARAMS = (
    "brain_key", "query", "text", "k", "max_distance", "filter", "best_only", "reverse", "diverse",
)  # fmt: skip
"""What of a search is kept as it was typed."""


@dataclass(frozen=True)
class Search:
    """A search, or another operator that left a user with a result.

    Attributes:
        title: what was searched for, in a few words; empty if it can't be repeated
        params: those of :data:`PARAMS` that were given
        selected: a :class:`~fiftyone_milvus.plugin.queries.Selection` as a dict, or an empty one
        image: the name and the base64 content of an uploaded image
        count: the number of results
        found: a digest of the IDs that were found
        within: what was searched, a :class:`~fiftyone_milvus.plugin.places.Place` as a dict
        searched: what the next search searches by default, likewise
        before: where the user was before the first search, likewise
        when: seconds since 1970
        feedback: the IDs of what users chose among the results before: ``"more"`` like these,
            ``"less"`` like those
    """

    title: str
    params: Mapping[str, Any]
    selected: Mapping[str, Any]
    image: Mapping[str, str] | None
    count: int
    found: str
    within: Mapping[str, Any]
    searched: Mapping[str, Any]
    before: Mapping[str, Any]
    when: float = field(default_factory=time.time)
    feedback: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its key in the store, by which the newest comes last."""
        kind = _REPEATED if self.title else "-left-"
        return f"{int(self.when * 1e6):020d}{kind}{self.found}"


def shown(ctx: Any) -> Shown:
    """Returns what the App shows, and where it comes from."""
    last = current(ctx)
    if last is None:
        return places.shown(ctx, None)
    return places.shown(ctx, (Place.from_dict(last.searched), Place.from_dict(last.before)))


def current(ctx: Any) -> Search | None:
    """Returns the search whose result the App shows, perhaps filtered; None if it is not kept."""
    stages = Place.in_view_bar(ctx).stages
    at = places.selected_at(stages)
    if at is None:
        return None
    store = _store(ctx.dataset)
    end = f"-{found(places.selected_ids(stages[at]))}"
    keys = [key for key in store.list_keys() if key.endswith(end)]
    return _parse(store.get(max(keys))) if keys else None


def found(ids: Sequence[str]) -> str:
    """Returns a digest of the IDs that a search found."""
    return places.digest(list(ids))


def keep(dataset: Any, search: Search) -> None:
    """Keeps a search, in place of the same one before, and forgets the oldest."""
    store = _store(dataset)
    if _size(search) > MAX_BYTES:
        # It can't be repeated, but left
        search = replace(
            search, title="", selected={}, image=None, within=Place().to_dict(), feedback={}
        )
    if _size(search) > MAX_BYTES:
        return
    for key, old in _read(store):
        if key != search.key and _same(old, search):
            store.delete(key)
    # As text: MongoDB takes no keys with dots, such as those of filters
    store.set(search.key, {"search": json.dumps(asdict(search))})
    for key in sorted(store.list_keys())[:-KEPT]:
        store.delete(key)


def keep_result(ctx: Any, ids: Sequence[str]) -> None:
    """Keeps where the user was before a result that is no search, such as near-duplicates.

    Args:
        ctx: the execution context
        ids: those that the App is about to show
    """
    now = shown(ctx)
    searched, before = now.searched.to_dict(), now.before.to_dict()
    keep(ctx.dataset, Search("", {}, {}, None, len(ids), found(ids), searched, searched, before))


def any_recent(dataset: Any) -> bool:
    """Whether there is a search that can be repeated; without reading any."""
    return any(_REPEATED in key for key in _store(dataset).list_keys())


def recent(dataset: Any) -> list[Search]:
    """Returns the searches that can be repeated, the newest first."""
    kept = [search for _, search in _read(_store(dataset)) if search.title]
    return sorted(kept, key=lambda search: search.when, reverse=True)


def get(dataset: Any, key: Any) -> Search | None:
    """Returns a search by its key, or None if it is not kept any more."""
    return _parse(_store(dataset).get(key)) if isinstance(key, str) else None


def forget(dataset: Any) -> int:
    """Forgets all searches of a dataset; returns how many there were."""
    store = _store(dataset)
    keys = store.list_keys()
    for key in keys:
        store.delete(key)
    return len(keys)


def _size(search: Search) -> int:
    return len(json.dumps(asdict(search)))


def _same(one: Search, other: Search) -> bool:
    return bool(one.title) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("params", "selected", "image", "feedback")
    )


def _read(store: Any) -> list[tuple[str, Search]]:
    kept = [(key, _parse(store.get(key))) for key in store.list_keys()]
    return [(key, search) for key, search in kept if search is not None]


def _parse(value: Any) -> Search | None:
    """Returns a search as it was stored; None if another version stored it."""
    try:
        return Search(**json.loads(value["search"]))
    except (KeyError, TypeError, ValueError):
        return None


def _store(dataset: Any) -> Any:
    return ExecutionStore.create(STORE, dataset._doc.id)
