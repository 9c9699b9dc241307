"""Parts of the data that a form offers: what has a tag, a saved view, another index."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_milvus.dataset.selected import all_samples
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.inventory import runs
from fiftyone_milvus.plugin import forms

_TAG, _VIEW, _INDEX = "tag:", "view:", "index:"


def choose(
    ctx: Any,
    inputs: Any,
    name: str,
    label: str,
    *,
    key: str | None = None,
    required: bool = True,
) -> None:
    """Adds the choice of a part.

    Args:
        ctx: the execution context
        inputs: the :class:`fiftyone.operators.types.Object` of the form
        name: of the parameter
        label: of the input
        key (None): the brain key of the index that others are compared with; by default, indexes
            can't be chosen
        required (True): whether a part must be chosen
    """
    labels = {f"{_TAG}{tag}": (tag, "Tag") for tag in ctx.dataset.distinct("tags")}
    labels |= {f"{_VIEW}{view}": (view, "Saved view") for view in ctx.dataset.list_saved_views()}
    for run in runs.read() if key is not None else ():
        if (run.dataset, run.brain_key) != (ctx.dataset.name, key):
            value = f"{run.dataset}/{run.brain_key}"
            labels[f"{_INDEX}{value}"] = (value, "Index of a dataset")
    forms.choose(inputs, name, labels, types.DropdownView(), required=required, label=label)


def part_of(ctx: Any, name: str, *, index: bool = False) -> Any:
    """Returns the part that the caller chose: a view, or an index.

    Args:
        ctx: the execution context
        name: of the parameter
        index (False): whether it may be an index

    Raises:
        InvalidInputError: if there is no such part
    """
    given, dataset = ctx.params.get(name), ctx.dataset
    expected = "'tag:NAME' or 'view:NAME'" + (" or 'index:DATASET/BRAIN_KEY'" if index else "")
    if not isinstance(given, str) or not given.startswith((_TAG, _VIEW, *([_INDEX] * index))):
        raise InvalidInputError(f"Invalid {name} {given!r}; expected {expected}")
    kind, _, value = given.partition(":")
    if kind == "view":
        if not dataset.has_saved_view(value):
            known = ", ".join(map(repr, dataset.list_saved_views())) or "none"
            raise InvalidInputError(f"There is no saved view '{value}'; there are {known}")
        return dataset.load_saved_view(value)
    if kind == "tag":
        known = dataset.distinct("tags")
        if value not in known:
            text = ", ".join(map(repr, known)) or "none"
            raise InvalidInputError(f"No sample has the tag '{value}'; there are {text}")
        return all_samples(dataset).match_tags(value)
    other, _, key = value.rpartition("/")
    if not any((run.dataset, run.brain_key) == (other, key) for run in runs.read()):
        raise InvalidInputError(f"There is no index '{value}'; expected DATASET/BRAIN_KEY")
    return fo.load_dataset(other).load_brain_results(key)
