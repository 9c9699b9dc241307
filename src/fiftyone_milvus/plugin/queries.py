"""Queries from a selection in the App, or from an uploaded image."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone.operators.types as types
import numpy as np
from PIL import Image

from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.metrics import Array

MAX_IMAGE_BYTES = 10 << 20
"""The largest uploaded image, as in FiftyOne's Similarity Search panel."""

_SIDE = 160
"""Pixels of the longer side of a thumbnail."""


@dataclass(frozen=True)
class Selection:
    """What is selected in the App.

    Attributes:
        of: ``"samples"``, or ``"labels"`` for label IDs
        like: the IDs that results should resemble
        unlike: those of the negatives (Alt-click)
    """

    of: str
    like: Sequence[str] = ()
    unlike: Sequence[str] = ()

    @property
    def words(self) -> str:
        """How many are selected, such as "2 like, 1 unlike"; empty without a selection."""
        if self.unlike:
            return f"{len(self.like):,} like, {len(self.unlike):,} unlike"
        return f"{len(self.like):,} {self.of}" if self.like else ""


def selected(ctx: Any, *, patches: bool) -> Selection:
    """Returns what is selected, for an index of patches or of samples."""
    in_patches = bool(getattr(ctx.view, "_is_patches", False))
    if patches and ctx.selected_labels:
        chosen = _by_kind(ctx.selected_labels, "label_id")
    else:
        # Older versions of FiftyOne have no ctx.selected_samples
        items = ctx.request_params.get("selected_samples") or ctx.selected
        if not items:
            items = [{**label, "id": label["sample_id"]} for label in ctx.selected_labels or ()]
        chosen = _by_kind(items, "id")
    labels = patches and (in_patches or bool(ctx.selected_labels))
    of = "labels" if labels else "samples"
    return Selection(of, chosen.get("default", ()), chosen.get("alt", ()))


def check_selection(ctx: Any, index: MilvusSimilarityIndex, chosen: Selection) -> None:
    """Checks that an index can be searched by what is selected.

    Raises:
        InvalidInputError: if nothing is selected, or something else than the index holds
    """
    if not chosen.like and not chosen.unlike:
        raise InvalidInputError(
            "Nothing is selected to search by; select samples in the grid, or labels in a sample"
        )
    if getattr(ctx.view, "_is_patches", False) and index.config.patches_field is None:
        raise InvalidInputError(
            f"Index '{index.key}' holds samples, and patches are selected; select samples, or "
            "choose an index of patches"
        )


def by_selection(index: MilvusSimilarityIndex, chosen: Selection) -> Array:
    """Returns the query for selected samples or labels.

    It is the mean of their vectors. If some are selected as negatives (Alt-click), it is twice the
    mean of the others minus the mean of the negatives, as in FiftyOne's Similarity Search panel.

    Returns:
        a ``num_dims`` float64 array

    Raises:
        InvalidInputError: if there are only negatives, or none is in the index
    """
    labels = chosen.of == "labels"
    if not chosen.like:
        raise InvalidInputError(
            "Only negatives are selected; also select what the results should resemble"
        )
    query = _mean(index, chosen.like, labels=labels)
    return 2 * query - _mean(index, chosen.unlike, labels=labels) if chosen.unlike else query


def uploaded(file: Any, index: MilvusSimilarityIndex) -> Array:
    """Returns the embedding of an uploaded image.

    Args:
        file: a dict of its name and its base64 content
        index: the index, which has a model

    Returns:
        a ``num_dims`` float array

    Raises:
        InvalidInputError: if it is no image, or too large, or the index has no model
    """
    images.check_model(index)
    return images.embed(index, decoded(file))


def decoded(file: Any) -> Array:
    """Returns the pixels of an uploaded image.

    Args:
        file: a dict of its name and its base64 content

    Returns:
        a ``height x width x 3`` uint8 array

    Raises:
        InvalidInputError: if it is no image, or too large
    """
    file = file or {}
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
    return images.decode(data, name)


def thumbnail(file: Any) -> str:
    """Returns a small picture of an uploaded image, as a ``data:`` URL.

    Raises:
        InvalidInputError: if it is no image, or too large
    """
    picture = Image.fromarray(decoded(file))
    picture.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def show(file: Any, inputs: Any) -> None:
    """Adds a small picture of an uploaded image to a form.

    Raises:
        InvalidInputError: if it is no image, or too large
    """
    picture = thumbnail(file)
    view = types.ImageView(alt=str(file.get("name")), height="120px")
    inputs.str("thumbnail", default=picture, view=view)


def _by_kind(items: Any, name: str) -> dict[str, list[str]]:
    """Returns IDs by kind of selection: ``"default"``, or ``"alt"`` for negatives."""
    found: dict[str, list[str]] = {}
    for item in items:
        kind = item.get("type", "default") if isinstance(item, dict) else "default"
        found.setdefault(kind, []).append(item[name] if isinstance(item, dict) else item)
    return found


def vectors_of(
    index: MilvusSimilarityIndex, ids: Sequence[str], *, labels: bool | None = None
) -> Array:
    """Returns the vectors of samples or labels that were selected.

    Args:
        index: the index
        ids: sample IDs, or label IDs
        labels (None): which of them; None for the primary keys of the index

    Returns:
        a ``num_found x num_dims`` float32 array, without those that are not in the index any more

    Raises:
        InvalidInputError: if none is in the index
    """
    if labels is None:
        labels = index.config.patches_field is not None
    samples, label_ids = (None, list(ids)) if labels else (list(ids), None)
    vectors, _, _ = index.get_embeddings(samples, label_ids, allow_missing=True)
    if not len(vectors):
        raise InvalidInputError(
            f"Nothing of the selection is in index '{index.key}'; sync the index first"
        )
    return vectors


def _mean(index: MilvusSimilarityIndex, ids: Sequence[str], *, labels: bool) -> Array:
    vectors = vectors_of(index, ids, labels=labels)
    return np.asarray(vectors, dtype=np.float64).mean(axis=0)
