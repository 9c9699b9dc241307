"""The operators that tag and delete what the review of duplicates has found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import forms, review
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report
from fiftyone_milvus.plugin.review import Review

_WHICH = ("group", "undecided", "all")


class TagDuplicates(MilvusOperator):
    """Tag the duplicates of a group, or of all groups, that a review has found."""

    info = Info(
        name="tag_duplicates",
        title="tag duplicates",
        icon="label",
        risk="LOW",
        reloads=True,
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        found = None if key is None else review.load(ctx.dataset, key)
        if found is None:
            inputs.view("none", types.Warning(label="No duplicates were searched for yet"))
            return
        labels = {
            "group": "The duplicates of this group",
            "undecided": "All duplicates that nothing was decided for",
            "all": f"All {len(found.duplicates):,} duplicates",
        }
        if ctx.params.get("group") is None:
            del labels["group"]
        else:
            inputs.int("group", view=types.HiddenView())
        view, default = types.RadioGroup(), next(iter(labels))
        forms.choose(inputs, "which", labels, view, default=default, required=True, label="Which")
        inputs.str("tag", default="duplicate", required=True, label="Tag")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key, params = forms.key_of(ctx), ctx.params
        found = _review(ctx, key)
        tag, which = params.get("tag", "duplicate"), params.get("which", "all")
        if not isinstance(tag, str) or not tag.strip():
            raise InvalidInputError(f"Invalid tag {tag!r}; expected a text")
        if which not in _WHICH:
            raise InvalidInputError(f"Unknown which {which!r}; expected one of {_WHICH}")
        chosen = found.duplicates
        if which == "group":
            members = set(found.members(params.get("group", 0)))
            chosen = [i for i in chosen if i in members]
        elif which == "undecided":
            chosen = [i for i in chosen if not found.decisions[i]]
        found.tag(chosen, tag)
        review.forget(ctx.dataset)
        return {"brain_key": key, "tag": tag, "tagged": len(chosen)}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return f"Tagged {result['tagged']:,} duplicates '{result['tag']}'", "success"


class DeleteDuplicates(MilvusOperator):
    """Delete the duplicates that were tagged for it in the review."""

    info = Info(
        name="delete_duplicates",
        title="delete duplicates",
        icon="delete_forever",
        risk="HIGH",
        reloads=True,
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        found = None if key is None else review.load(ctx.dataset, key, again=True)
        if found is None or not found.deleted:
            label = f"Nothing has the tag '{review.DELETE}': review duplicates in the panel first"
            inputs.view("none", types.Warning(label=label))
        else:
            inputs.view("loss", types.Warning(label=_loss(found)))
        forms.confirm(ctx, inputs, "Yes, delete them")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key = forms.key_of(ctx)
        found = _review(ctx, key)
        count = len(found.deleted)
        if not count:
            raise InvalidInputError(
                f"Nothing has the tag '{review.DELETE}'; tag what is to be deleted first"
            )
        forms.check_confirmed(ctx, f"Deleting {count:,} {_what(found)}")
        ids = found.delete()
        index = ctx.dataset.load_brain_results(key)
        before = index.total_index_size
        samples, labels = (ids, None) if found.patches_field is None else (None, ids)
        index.remove_from_index(sample_ids=samples, label_ids=labels, allow_missing=True)
        vectors = before - index.total_index_size
        return {"brain_key": key, "deleted": len(ids), "what": _what(found), "vectors": vectors}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        text = (
            f"Deleted {result['deleted']:,} {result['what']}, and {result['vectors']:,} vectors of "
            f"index '{result['brain_key']}'; files stay"
        )
        return text, "success"

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        # The view may be of what is gone
        yield ctx.ops.clear_view()
        yield ctx.ops.reload_dataset()


def _review(ctx: Any, key: str) -> Review:
    found = review.load(ctx.dataset, key, again=True)
    if found is None:
        raise InvalidInputError(
            f"No duplicates of index '{key}' were searched for yet; open the Milvus panel, "
            "Duplicates, Find groups; or call find_duplicates with result='review'"
        )
    return found


def _what(found: Review) -> str:
    return "samples" if found.patches_field is None else "patches"


def _loss(found: Review) -> str:
    deleted = set(found.deleted)
    empty = sum(all(i in deleted for i in found.members(number)) for number in found.numbers)
    text = (
        f"Deletes {len(deleted):,} {_what(found)} with the tag '{review.DELETE}' from the dataset, "
        "with their labels and their vectors; the files stay on disk"
    )
    if empty:
        text += f". In {empty:,} groups nothing is kept"
    return text
