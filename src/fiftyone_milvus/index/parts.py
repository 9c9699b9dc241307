"""Reads the parts of a question: what is given as ``like``, ``unlike``, ``text`` and ``image``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import fiftyone as fo
import fiftyone.core.collections as foc
import numpy as np
from fiftyone.core.labels import Label
from fiftyone.core.sample import SampleView

from fiftyone_milvus.dataset import images
from fiftyone_milvus.dataset.crops import Crop
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.index import asked
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import as_number, check_weight
from fiftyone_milvus.search.question import Part, Question, normalized
from fiftyone_milvus.writing import arrays

ARGUMENTS = ("query", "like", "text", "image", "unlike")
"""The arguments of a search that parts are given as."""


def read(index: Any, given: Mapping[str, Any], region: Any = None, weights: Any = None) -> Question:
    """Returns a question, with the vectors of its parts.

    Args:
        index: the index to search
        given: by name of :data:`ARGUMENTS`, what :meth:`MilvusSimilarityIndex.search` takes. None
            and empty lists are no parts
        region (None): the box of ``image`` to search by
        weights (None): a dict from names to a weight, or to one for each item of a list

    Raises:
        InvalidInputError: if something can't be a part of a question
        MissingIDsError: if an ID is not in the index
    """
    items = {name: found for name in ARGUMENTS if (found := _items(name, given.get(name)))}
    if region is not None:
        items["image"] = [_region(items.get("image", []), region)]
    weighed = _weights(weights, items)
    flat = [(name, item) for name, found in items.items() for item in found]
    rows = _vectors(index, flat)
    metric = index.config.metric
    parts = tuple(
        Part(name, _what(item), weight, normalized(vectors, metric).mean(axis=0))
        for (name, item), vectors, weight in zip(
            flat, rows, (w for name in items for w in weighed[name])
        )
    )
    return Question(parts, metric)


def _items(name: str, value: Any) -> list[Any]:
    """Returns what an argument holds, each of which is one part."""
    if value is None:
        return []
    if isinstance(value, Iterator):
        value = list(value)
    if getattr(value, "ndim", None) == 2:
        value = arrays.real_numbers(value, "queries")  # of a tensor or a data frame too
    many = isinstance(value, (list, tuple, set, frozenset)) or (
        isinstance(value, np.ndarray) and (value.ndim == 2 or value.dtype.kind in "OU")
    )
    items = list(value) if many else [value]
    if items and many and all(as_number(item) is not None for item in items):
        items = [np.asarray(items)]  # one vector
    if name == "text":
        for item in items:
            if not isinstance(item, str) or not item.strip():
                raise InvalidInputError(
                    f"Invalid text {shown(item)}; expected a text to search for, or a list of them"
                )
        return [asked.Text(item) for item in items]
    return items


def _region(images_given: list[Any], region: Any) -> Crop:
    if len(images_given) != 1 or isinstance(images_given[0], Crop):
        raise InvalidInputError(
            f"region is of one image, and {len(images_given)} are given; pass image, or "
            "Crop(image, box) for each of several"
        )
    return Crop(images_given[0], region)


def _weights(weights: Any, items: Mapping[str, list[Any]]) -> dict[str, list[float]]:
    """Returns the weight of each part: that of an argument is shared by its items."""
    given = {} if weights is None else weights
    if not isinstance(given, Mapping) or not all(name in items for name in given):
        raise InvalidInputError(
            f"Invalid weights {shown(weights)}; expected a dict of weights for what is given: "
            f"{', '.join(items) or 'nothing'}"
        )
    found = {}
    for name, parts in items.items():
        value = given.get(name, 1.0)
        label = f"weights[{name!r}]"
        if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1:
            if len(value) != len(parts):
                raise InvalidInputError(
                    f"Invalid {label}: {len(value)} weights for {len(parts)} parts; give one for "
                    "each, or a number"
                )
            each = [check_weight(label, w) for w in value]
        else:
            each = [check_weight(label, value)] * len(parts)
        found[name] = [w / len(parts) for w in each]
    return found


def _vectors(index: Any, items: list[tuple[str, Any]]) -> list[Array]:
    """Returns the vectors of each item; all IDs are read at once."""
    read = [_read(index, name, item) for name, item in items]
    ids = list(dict.fromkeys(i for found in read if isinstance(found, list) for i in found))
    table = dict(zip(ids, index._parse_vectors(ids)[0])) if ids else {}
    return [np.stack([table[i] for i in f]) if isinstance(f, list) else f for f in read]


def _read(index: Any, name: str, item: Any) -> list[str] | Array:
    """Returns an item as IDs of the index, or as vectors."""
    if name == "image" and not isinstance(item, Crop):
        vector = images.embed(index, images.load(item))
        return asked.vectors(index, vector)
    found = asked.read(index, [item], files=True)
    if asked.are_ids(found):
        return [str(i) for i in found]
    return asked.vectors(index, asked.texts(found))


def _what(item: Any) -> str:
    """Returns what a part is, in a few words."""
    if isinstance(item, Crop):
        box = ", ".join(f"{number:g}" for number in item.box)
        return f"[{box}] of {_what(item.image)}"
    if isinstance(item, foc.SampleCollection):
        return f"a view of {len(item):,}"
    if isinstance(item, (fo.Sample, SampleView)):
        return f"sample {item.id}"
    if isinstance(item, Label):
        return f"label {getattr(item, 'id', '')}".strip()
    if isinstance(item, os.PathLike):
        return shown(os.fspath(item))
    shape = getattr(item, "shape", None)
    if shape is not None:
        return f"an image of {shape[1]} x {shape[0]}" if len(shape) == 3 else "a vector"
    if isinstance(item, (list, tuple)):
        return "a vector"
    return shown(str(item)) if isinstance(item, str) else shown(item)
