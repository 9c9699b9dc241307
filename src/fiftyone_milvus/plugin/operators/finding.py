"""The base class of the operators that find samples or patches, and do something with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import fiftyone.operators.types as types

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.plugin import forms, review, searches
from fiftyone_milvus.plugin.operator import MilvusOperator, Report, from_app


@dataclass(frozen=True)
class Found:
    """What an operator found.

    Attributes:
        ids: sample IDs, or label IDs of an index of patches
        facts: what else Python callers get, as JSON types
        shown: the IDs of the view, in its order; by default, ``ids``
        tagged: the IDs that a tag is for; by default, ``ids``
        review: writes the groups that the panel reviews
    """

    ids: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    shown: Sequence[str] | None = None
    tagged: Sequence[str] | None = None
    review: Callable[[], object] | None = None


class FindOperator(MilvusOperator):
    """Finds samples or patches, and shows, tags, selects or reviews them, as the caller chose."""

    tag: ClassVar[str]
    """The tag, unless the caller gives one."""

    results: ClassVar[Mapping[str, tuple[str, str]]]
    """What can be done, by default the first: ``view``, ``tag``, ``select`` or ``review``, each
    with a label and a description."""

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        """Finds them.

        Args:
            ctx: the execution context
            index: restricted to the samples that were chosen; for this call alone

        Raises:
            FiftyOneMilvusError: with a message for the user
        """
        raise NotImplementedError

    def choose_result(self, ctx: Any, inputs: Any) -> None:
        """Adds the choice of what to do with what is found."""
        view, default = types.RadioGroup(orientation="horizontal"), next(iter(self.results))
        forms.choose(inputs, "result", self.results, view, default=default, label="Then")
        if ctx.params.get("result") == "tag":
            inputs.str("tag", default=self.tag, required=True, label="Tag")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index, params, known = forms.index_of(ctx), ctx.params, tuple(self.results)
        result, tag = params.get("result") or known[0], params.get("tag") or self.tag
        if result not in known:
            raise InvalidInputError(f"Unknown result {result!r}; expected one of {known}")
        if not isinstance(tag, str):
            raise InvalidInputError(f"Invalid tag {tag!r}; expected a string")
        patches_field = index.config.patches_field
        if result == "review":
            review.check(ctx.dataset, patches_field)
        own = index._restricted(forms.target_of(ctx))
        report(None, "Reading vectors and comparing")
        found = self.find(ctx, own)
        if result == "review" and found.review is not None:
            report(None, "Writing the groups")
            found.review()
            review.forget(ctx.dataset)
        if result == "tag":
            tagged = found.ids if found.tagged is None else found.tagged
            selected.tag(ctx.dataset, patches_field, tagged, tag)
        return {
            "brain_key": index.key,
            "patches_field": patches_field,
            "ids": list(found.ids),
            "shown": list(found.ids if found.shown is None else found.shown),
            "result": result,
            "tag": tag if result == "tag" else None,
            **found.facts,
        }

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        ids, what = result["ids"], result["result"]
        done = what in ("tag", "review")
        if (ids and done) or result.get("written"):
            yield ctx.ops.reload_dataset()
        if not ids or done:
            return
        shown = result["shown"] if what == "view" else ids
        if what == "view" or result["patches_field"] is not None:
            if from_app(ctx):
                searches.keep_result(ctx, shown)
            yield ctx.ops.set_view(selected.view_of(ctx.dataset, result["patches_field"], shown))
        if what == "select":
            yield ctx.ops.set_selected_samples(ids)


def tagged(result: Mapping[str, Any]) -> str:
    """Returns what a message says of the tag."""
    return "" if result["tag"] is None else f"; they have the tag '{result['tag']}'"


def choices(
    order: str, tag: str, *others: str, default: str = "view"
) -> dict[str, tuple[str, str]]:
    """Returns the choices to show and to tag, and others of ``select`` and ``review``.

    Args:
        order: in which they are shown, such as ``"the closest first"``
        tag: the tag, unless the caller gives one
        *others: the names of the others
        default ("view"): the first of them
    """
    known = {
        "view": ("Show", f"Show them {order}"),
        "tag": ("Tag", f"Give them the tag '{tag}'"),
        "select": ("Select", "Select them in the grid"),
        "review": ("Review", "Review them in the Milvus panel"),
    }
    return {name: known[name] for name in dict.fromkeys((default, "view", "tag", *others))}
