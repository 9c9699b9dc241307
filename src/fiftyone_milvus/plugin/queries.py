"""What a user points at, as a query."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.metrics import Array

MAX_IMAGE_BYTES = 10 << 20
"""Of an uploaded image: the limit of FiftyOne's Similarity Search panel."""


def selection(ctx: Any, index: MilvusSimilarityIndex) -> Array:
    """Returns the query that a selection means.

    It is the mean of the selected vectors, or, with some selected as negative (Alt-click), twice
    that mean minus the mean of the negatives, as in FiftyOne's Similarity Search panel.

    Returns:
        a ``num_dims`` float64 array

    Raises:
        InvalidInputError: if nothing is selected, or none of it is in the index
    """
    chosen = _labels(ctx) if index.config.patches_field is not None else _samples(ctx)
    if not any(chosen.values()):
        raise InvalidInputError(
            "Nothing is selected to search by; select samples in the grid, or labels in a sample"
        )
    of = {kind: _mean(index, ids, by) for kind, (ids, by) in _ids(ctx, index, chosen).items()}
    if "default" not in of:
        raise InvalidInputError(
            "Only negatives are selected; select what results should resemble too"
        )
    query = of["default"]
    return 2 * query - of["alt"] if "alt" in of else query


def uploaded(ctx: Any, index: MilvusSimilarityIndex) -> Array:
    """Returns the embedding of an uploaded image.

    Returns:
        a ``num_dims`` array

    Raises:
        InvalidInputError: if it is no image, too large, or the index has no model
    """
    images.check_model(index)
    file = ctx.params.get("image") or {}
    if not isinstance(file, dict):
        raise InvalidInputError("Invalid image; expected a dict of its name and base64 content")
    content, name = file.get("content"), file.get("name", "image")
    if not isinstance(content, str) or not content:
        raise InvalidInputError("Upload an image to search by")
    if len(content) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise InvalidInputError(
            f"Image '{name}' is larger than {MAX_IMAGE_BYTES >> 20} MB; upload a smaller one"
        )
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError:
        data = b""
    return images.embed(index, images.decode(data, name))


def _samples(ctx: Any) -> dict[str, list[str]]:
    """Returns the selected samples, or those of the selected labels, by kind of selection."""
    # Older versions of FiftyOne have no ctx.selected_samples
    items = ctx.request_params.get("selected_samples") or ctx.selected or ()
    if not items:
        items = [{**label, "id": label["sample_id"]} for label in ctx.selected_labels or ()]
    return _by_kind(items, "id")


def _labels(ctx: Any) -> dict[str, list[str]]:
    """Returns the selected labels, or else the selected samples, by kind of selection."""
    if ctx.selected_labels:
        return _by_kind(ctx.selected_labels, "label_id")
    return _samples(ctx)


def _by_kind(items: Any, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items:
        kind = item.get("type", "default") if isinstance(item, dict) else "default"
        found.setdefault(kind, []).append(item[name] if isinstance(item, dict) else item)
    return found


def _ids(
    ctx: Any, index: MilvusSimilarityIndex, chosen: dict[str, list[str]]
) -> dict[str, tuple[list[str], str]]:
    """Returns the IDs of each kind of selection, and which IDs they are."""
    patches = index.config.patches_field is not None
    labels = bool(ctx.selected_labels) or bool(getattr(ctx.view, "_is_patches", False))
    if not patches and getattr(ctx.view, "_is_patches", False):
        raise InvalidInputError(
            f"Index '{index.key}' holds samples, and patches are selected; select samples, or "
            "choose an index of patches"
        )
    by = "label_ids" if patches and labels else "sample_ids"
    return {kind: (ids, by) for kind, ids in chosen.items()}


def _mean(index: MilvusSimilarityIndex, ids: list[str], by: str) -> Array:
    samples, labels = (None, ids) if by == "label_ids" else (ids, None)
    vectors, _, _ = index.get_embeddings(samples, labels, allow_missing=True)
    if not len(vectors):
        raise InvalidInputError(
            f"Nothing of what is selected is in index '{index.key}'; sync the index first"
        )
    return np.asarray(vectors, dtype=np.float64).mean(axis=0)
