"""A selection in the App: its strategies as the form gives them, and a picture of its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import forms, pictures
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.places import Place
from fiftyone_milvus.selections import (
    Balanced,
    Diverse,
    Novel,
    Selected,
    Similar,
    Strategy,
    Typical,
)

STRENGTHS = {
    "diverse": "Diverse: far from each other",
    "typical": "Typical: with others close by",
    "similar": "Similar to what is selected in the grid",
    "novel": "Novel: unlike what has the tag below",
    "balance": "Balanced: as many of each value of the field below",
}
"""The parameters of the strengths, and what the form says of them."""

DEFAULTS = {name: 1.0 if name == "diverse" else 0.0 for name in STRENGTHS}
"""The strengths of a caller who gives none."""

DEFAULT = 100
"""How many are selected by default."""

_shown: Kept[Selected] = Kept()


def strategies(ctx: Any, index: Any) -> list[Strategy]:
    """Returns the strategies that a caller chose.

    Raises:
        InvalidInputError: if one needs what was not given
    """
    params = ctx.params
    found: list[Strategy] = []
    given = {name: params.get(name, default) for name, default in DEFAULTS.items()}
    if given["diverse"]:
        found.append(Diverse(given["diverse"]))
    if given["typical"]:
        found.append(Typical(given["typical"]))
    if given["similar"]:
        if not ctx.selected:
            raise InvalidInputError("Select samples in the grid that others should be similar to")
        found.append(Similar(_references(ctx, index, ctx.selected), given["similar"]))
    if given["novel"]:
        tag = params.get("novel_tag")
        if not tag:
            raise InvalidInputError("Give novel_tag: a tag of the samples that are known already")
        tagged = selected.all_samples(ctx.dataset).match_tags(str(tag))
        if not len(tagged):
            raise InvalidInputError(f"No sample has the tag '{tag}'; give another novel_tag")
        found.append(Novel(tagged, given["novel"]))
    if given["balance"]:
        field = params.get("balanced")
        if not field:
            raise InvalidInputError("Give balanced: the field whose values are to be balanced")
        found.append(Balanced(str(field), given["balance"]))
    return found


def select(ctx: Any, index: Any) -> Selected:
    """Selects what a caller asks for.

    Raises:
        InvalidInputError: if the parameters can't be used
    """
    n, seed = ctx.params.get("n"), ctx.params.get("seed")
    return index._restricted(forms.target_of(ctx)).select(
        DEFAULT if n is None else n,
        strategies(ctx, index),
        seed=0 if seed is None else seed,
        progress=False,
    )


def previewed(ctx: Any, index: Any) -> Selected:
    """Returns what would be selected, which may be some seconds old.

    The App resolves a form at each keystroke.
    """
    names = ("n", "seed", "balanced", "novel_tag", "target", *STRENGTHS)
    asked = [ctx.params.get(name) for name in names]
    asked += [list(ctx.selected or ()), list(Place.of(ctx).stages)]
    return _shown.get(index, asked, lambda: select(ctx, index))


def draw(inputs: Any, found: Selected) -> None:
    """Adds a histogram of the distances to the nearest selected one, and counts per label."""
    if len(found.distances):
        view = pictures.histogram(found.distances, "Distances to the nearest selected one")
        inputs.view("coverage", view)
    text = f"**{len(found):,}** of {found.candidates:,}, all within {found.radius:.4g} of one"
    inputs.md("\n\n".join([text, *map(_table, found.counts.values())]), name="selected")


def _table(counts: Mapping[str, tuple[int, int]]) -> str:
    rows = ["| value | selected | of |", "| --- | --- | --- |"]
    shown = list(counts.items())[:20]
    rows += [f"| {name} | {chosen:,} | {total:,} |" for name, (chosen, total) in shown]
    if len(counts) > len(shown):
        rows.append(f"| {len(counts) - len(shown):,} more values | | |")
    return "\n".join(rows)


def _references(ctx: Any, index: Any, ids: list[str]) -> Any:
    if getattr(ctx.view, "_is_patches", False):
        return list(ids)
    return selected.all_samples(ctx.dataset).select(ids)
