"""Queries from a selection in the App, or from an uploaded image."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.metrics import Array

MAX_IMAGE_BYTES = 10 << 20
"""The largest uploaded image, as in FiftyOne's Similarity Search panel."""


def selection(ctx: Any, index: MilvusSimilarityIndex) -> Array:
    """Returns the query for the selected samples or labels.

    It is the mean of their vectors. If some are selected as negatives (Alt-click), it is twice the
    mean of the others minus the mean of the negatives, as in FiftyOne's Similarity Search panel.

    Returns:
        a ``num_dims`` float64 array

    Raises:
        InvalidInputError: if nothing is selected, only negatives are, or none is in the index
    """
    patches = index.config.patches_field is not None
    in_patches = bool(getattr(ctx.view, "_is_patches", False))
    if patches and ctx.selected_labels:
        chosen = _by_kind(ctx.selected_labels, "label_id")
    else:
        # Older versions of FiftyOne have no ctx.selected_samples
        items = ctx.request_params.get("selected_samples") or ctx.selected
        if not items:
            items = [{**label, "id": label["sample_id"]} for label in ctx.selected_labels or ()]
        chosen = _by_kind(items, "id")
    if not chosen:
        raise InvalidInputError(
            "Nothing is selected to search by; select samples in the grid, or labels in a sample"
        )
    if in_patches and not patches:
        raise InvalidInputError(
            f"Index '{index.key}' holds samples, and patches are selected; select samples, or "
            "choose an index of patches"
        )
    labels = patches and (in_patches or bool(ctx.selected_labels))
    means = {kind: _mean(index, ids, labels=labels) for kind, ids in chosen.items()}
    if "default" not in means:
        raise InvalidInputError(
            "Only negatives are selected; also select what the results should resemble"
        )
    query = means["default"]
    return 2 * query - means["alt"] if "alt" in means else query


def uploaded(ctx: Any, index: MilvusSimilarityIndex) -> Array:
    """Returns the embedding of the uploaded image.

    Returns:
        a ``num_dims`` float array

    Raises:
        InvalidInputError: if it is no image, or too large, or the index has no model
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


def _by_kind(items: Any, name: str) -> dict[str, list[str]]:
    """Returns IDs by kind of selection: ``"default"``, or ``"alt"`` for negatives."""
    found: dict[str, list[str]] = {}
    for item in items:
        kind = item.get("type", "default") if isinstance(item, dict) else "default"
        found.setdefault(kind, []).append(item[name] if isinstance(item, dict) else item)
    return found


def _mean(index: MilvusSimilarityIndex, ids: list[str], *, labels: bool) -> Array:
    samples, label_ids = (None, ids) if labels else (ids, None)
    vectors, _, _ = index.get_embeddings(samples, label_ids, allow_missing=True)
    if not len(vectors):
        raise InvalidInputError(
            f"Nothing of the selection is in index '{index.key}'; sync the index first"
        )
    return np.asarray(vectors, dtype=np.float64).mean(axis=0)
