"""What the review of duplicates shows of a group."""

from __future__ import annotations

import threading
from typing import Any

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.plugin.panel.events import State
from fiftyone_milvus.plugin.review import Review
from fiftyone_milvus.plugin.thumbnails import thumbnail

_SHOWN = 24
"""Samples of a group whose pictures are shown."""

_PICTURES = 500
"""Pictures that are kept, some 4 kB each."""

_pictures: dict[str, str | None] = {}
"""Pictures of the groups that were shown last: the App would send back what the state holds."""

_lock = threading.Lock()


def shown_group(found: Review, number: int) -> State:
    """Returns the state that shows a group."""
    members = found.members(number)
    decided = sum(1 for i in found.duplicates if found.decisions[i])
    deleted, duplicates = len(found.deleted), len(found.duplicates)
    numbers = found.numbers
    group = {
        "number": number,
        "title": f"**Duplicates in {found.brain_key}** within {found.thresh:.4g}",
        "where": f"Group {numbers.index(number) + 1:,} of {len(numbers):,}",
        "counts": f"{decided:,} of {duplicates:,} duplicates decided, {deleted:,} to delete",
        "deleted": deleted,
        "can_undo": found.can_undo,
        "members": _members(found, members[:_SHOWN]),
        "more": max(0, len(members) - _SHOWN),
    }
    known = {"key": found.brain_key, "thresh": found.thresh, "rows": [], "edges": []}
    return {"group": group, "duplicates": {**known, "in_view": False, "size": 0}}


def picture(name: str) -> str | None:
    """Returns a picture of a group that was shown, as a data URL; None where there is none."""
    return _pictures.get(name)


def _members(found: Review, positions: list[int]) -> list[dict[str, Any]]:
    samples = selected.all_samples(found.dataset).select(
        list({found.sample_ids[i] for i in positions})
    )
    by_id = {sample.id: sample for sample in samples}
    shown = []
    for i in positions:
        sample = by_id.get(found.sample_ids[i])
        label, name = None, f"{found.dataset._doc.id}/{found.ids[i]}"
        if sample is not None and found.patches_field is not None:
            label = _label(sample, found.patches_field, found.ids[i])
        shown.append(
            {
                "position": i,
                "name": "deleted" if sample is None else sample.filename,
                "kept": bool(found.kept[i]),
                "caption": "kept" if found.kept[i] else f"distance {found.distances[i]:.4g}",
                "decision": found.decisions[i],
                "image": name,
            }
        )
        if sample is not None:
            picture = thumbnail(sample.filepath, sample.media_type, label)
            _remember(name, picture)
    return shown


def _remember(name: str, picture: str | None) -> None:
    with _lock:
        _pictures.pop(name, None)
        _pictures[name] = picture
        while len(_pictures) > _PICTURES:
            del _pictures[next(iter(_pictures))]


def _label(sample: Any, field: str, label_id: str) -> Any:
    value = sample.get_field(field)
    items = getattr(value, getattr(value, "_LABEL_LIST_FIELD", ""), None)
    labels = [value] if items is None else items
    return next((label for label in labels if label.id == label_id), None)
