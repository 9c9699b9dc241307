"""Inputs that several forms have: an index, a target, a brain key, a confirmation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus import inventory
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory import lifecycle
from fiftyone_milvus.inventory.stored_index import config_of
from fiftyone_milvus.plugin import searches
from fiftyone_milvus.plugin.operator import Report, from_app
from fiftyone_milvus.plugin.places import Place

TARGETS = ("dataset", "view", "before", "selection")
"""What can be searched; "before" is what was searched before the result that the App shows."""


@contextmanager
def problems(inputs: Any) -> Iterator[None]:
    """Shows an error in a form, in place of what it prevents.

    Args:
        inputs: the :class:`fiftyone.operators.types.Object` of the form
    """
    try:
        yield
    except FiftyOneMilvusError as error:
        inputs.view("problem_found", types.Error(label=str(error)))


def choose(
    inputs: Any,
    name: str,
    labels: Mapping[str, str | tuple[str, str]],
    view: Any,
    **kwargs: Any,
) -> None:
    """Adds the choice of a value.

    Args:
        inputs: the :class:`fiftyone.operators.types.Object` of the form
        name: of the parameter
        labels: for each value its label, or its label and a description
        view: shows the values, such as a :class:`fiftyone.operators.types.RadioGroup`
        **kwargs: those of ``inputs.enum()``
    """
    for value, said in labels.items():
        label, description = (said, None) if isinstance(said, str) else said
        view.add_choice(value, label=label, description=description)
    inputs.enum(name, view.values(), view=view, **kwargs)


def choose_index(ctx: Any, inputs: Any) -> str | None:
    """Adds the choice of an index; returns the chosen brain key, or None if there is none.

    Args:
        ctx: the execution context
        inputs: the :class:`fiftyone.operators.types.Object` of the form
    """
    keys = inventory.keys(ctx.dataset)
    if not keys:
        label = "This dataset has no Milvus index: create one first"
        inputs.view("no_index", types.Warning(label=label))
        inputs.str("brain_key", required=True, view=types.HiddenView())
        return None
    if len(keys) == 1:
        # Nothing to choose; and a form with one box of text is sent by Enter
        inputs.str("brain_key", default=keys[0], view=types.HiddenView())
        return keys[0]
    labels = {}
    for key in keys:
        config: Any = config_of(ctx.dataset, key)
        what = f"patches in {config.patches_field}" if config.patches_field else "samples"
        labels[key] = (key, f"{what}, {config.metric}")
    choose(
        inputs,
        "brain_key",
        labels,
        types.DropdownView(),
        required=True,
        default=keys[0],
        label="Index",
        description="The brain key of the index",
    )
    chosen = ctx.params.get("brain_key") or keys[0]
    return chosen if chosen in keys else None


def key_of(ctx: Any) -> str:
    """Returns the brain key that the caller gave.

    Raises:
        InvalidInputError: if it is none of this dataset's Milvus indexes
    """
    key, keys = ctx.params.get("brain_key"), inventory.keys(ctx.dataset)
    if not key and len(keys) == 1 and from_app(ctx):
        key = keys[0]
    if not key:
        known = ", ".join(map(repr, keys)) or "none: create one first"
        raise InvalidInputError(f"Give brain_key; the Milvus indexes of this dataset are {known}")
    inventory.stored_index.open_index(ctx.dataset, key)
    return str(key)


def index_of(ctx: Any) -> MilvusSimilarityIndex:
    """Returns the index that the caller named, loaded.

    Raises:
        InvalidInputError: if there is no such index
    """
    return ctx.dataset.load_brain_results(key_of(ctx))


def choose_target(ctx: Any, inputs: Any, *, verb: str, default: str = "dataset") -> None:
    """Adds the choice of what to search, or to index, unless there is only the dataset.

    Where the App shows the result of a search, "view" is no default: what was searched before is.

    Args:
        ctx: the execution context
        inputs: the :class:`fiftyone.operators.types.Object` of the form
        verb: such as "Search"
        default ("dataset"): the target of a call without one
    """
    labels = _targets(ctx)
    if len(labels) > 1:
        choose(
            inputs,
            "target",
            labels,
            types.RadioGroup(orientation="horizontal"),
            required=True,
            default=_default_target(ctx, default),
            label=f"{verb} in" if verb == "Search" else "Samples",
        )


def _targets(ctx: Any) -> dict[str, str]:
    """Returns what can be searched, with a label that counts it; the narrowest first."""
    found, dataset = searches.shown(ctx), ctx.dataset
    patches = bool(getattr(ctx.view, "_is_patches", False))
    targets = {}
    if ctx.selected:
        targets["selection"] = f"{len(ctx.selected):,} selected"
    if found.place.stages:
        shown = f"{found.place.count(dataset):,}"
        what = "results" if found.result else "filtered"
        targets["view"] = f"{shown} {'patches' if patches and not found.result else what}"
    if found.searched.stages and found.searched != found.place:
        targets["before"] = f"{found.searched.count(dataset):,} filtered"
    return {**targets, "dataset": f"{Place().count(dataset):,} samples"}


def _default_target(ctx: Any, default: str) -> str:
    found = searches.shown(ctx)
    if default == "view" and found.result and found.searched != found.place:
        default = "before"
    place = {"view": found.place, "before": found.searched}.get(default)
    there = bool(ctx.selected) if default == "selection" else place is not None and place.stages
    return default if there else "dataset"


def target_name(ctx: Any, default: str = "dataset") -> Any:
    """Returns the target that the caller chose, or the default that the form shows."""
    return ctx.params.get("target") or (_default_target(ctx, default) if from_app(ctx) else default)


def target_of(ctx: Any, default: str = "dataset") -> Any:
    """Returns the samples that the caller chose.

    Raises:
        InvalidInputError: if the choice is unknown, or nothing is selected
    """
    target = target_name(ctx, default)
    if target not in TARGETS:
        raise InvalidInputError(f"Unknown target {target!r}; expected one of {TARGETS}")
    if target == "dataset":
        return ctx.dataset
    if target == "before":
        return searches.shown(ctx).searched.view(ctx.dataset)
    if target == "view":
        return Place.of(ctx).view(ctx.dataset) if from_app(ctx) else ctx.view
    if not ctx.selected:
        raise InvalidInputError("No samples are selected; select some, or choose another target")
    # In a view of patches, the selected IDs are those of patches
    return (ctx.view if ctx.view._is_patches else ctx.dataset).select(ctx.selected)


def within(ctx: Any, default: str = "dataset") -> Place:
    """Returns the place of the samples that :func:`target_of` returns."""
    target, shown = target_name(ctx, default), searches.shown(ctx)
    if target == "dataset":
        return Place()
    if target == "before":
        return shown.searched
    if target == "view":
        return shown.place
    return shown.place.selecting(ctx.selected)


def name_key(ctx: Any, inputs: Any, name: str, *, default: str, label: str) -> None:
    """Adds the field for a new brain key, which is checked while the user types."""
    problem = lifecycle.key_problem(ctx.dataset, ctx.params.get(name, default))
    inputs.str(
        name,
        required=True,
        default=default,
        label=label,
        description="The name of the index, also in Python code",
        invalid=problem is not None,
        error_message=problem or "",
    )
    if problem is not None:
        inputs.view(f"{name}_problem", types.Warning(label=problem))


def confirm(ctx: Any, inputs: Any, label: str) -> None:
    """Adds a checkbox that the operator requires: until it is ticked, the form can't be sent."""
    # From Python, check_confirmed() says what to pass
    ticked = ctx.params.get("confirmed") is True or not from_app(ctx)
    inputs.bool(
        "confirmed",
        required=True,
        default=False,
        label=label,
        view=types.CheckboxView(),
        invalid=not ticked,
        error_message="" if ticked else "Tick this first",
    )


def check_confirmed(ctx: Any, what: str) -> None:
    """Checks that the caller has confirmed.

    Raises:
        InvalidInputError: if not
    """
    if ctx.params.get("confirmed") is not True:
        raise InvalidInputError(f"{what} can't be undone; confirm it (confirmed=True)")


def bar(report: Report) -> Any:
    """Returns a callback for FiftyOne's progress bars that reports the share done and the rate."""
    start = time.monotonic()

    def update(pb: Any) -> None:
        done, total = pb.iteration, pb.total
        rate = done / max(time.monotonic() - start, 1e-6)
        # All are embedded before all are stored
        share = min(done / total, 0.99) if total else None
        report(share, f"{done:,} of {total or 0:,} ({rate:,.0f} per second)")

    return update
