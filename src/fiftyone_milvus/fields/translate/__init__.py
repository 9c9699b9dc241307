"""Translates a FiftyOne view to a Milvus filter expression over metadata fields.

A view contains the documents that pass its MongoDB pipeline. The pipeline is evaluated here on one
symbolic document, whose paths stand for columns instead of values: every stage, expression and
query evaluates to the *condition* on the columns under which it is true. Every view, from Python or
from the App's sidebar, becomes a few operators of MongoDB.

A view that has no exact condition is not translated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import fiftyone.core.media as fom
import fiftyone.core.patches as fop

from fiftyone_milvus.collection.filters import MAX_EXPRESSION_IDS, ids_in
from fiftyone_milvus.fields.translate import pipeline
from fiftyone_milvus.fields.translate.conditions import (
    Condition,
    Constant,
    Untranslatable,
    every,
    written,
)
from fiftyone_milvus.fields.translate.documents import patch_document, sample_document
from fiftyone_milvus.schema.columns import Column
from fiftyone_milvus.schema.layout import PK

logger = logging.getLogger(__name__)


def translate(view: Any, columns: Sequence[Column], patches_field: str | None) -> str | None:
    """Returns the Milvus expression for the rows of a view; asks neither MongoDB nor Milvus.

    Args:
        view: a :class:`fiftyone.core.collections.SampleCollection` of the index's dataset
        columns: the metadata fields
        patches_field: the field of the patches that the index holds, or None for samples

    Returns:
        an expression for exactly the rows of the index that are in the view, ``""`` for every row,
        or None if the columns don't determine these rows
    """
    try:
        found = _rows(view, tuple(columns), patches_field)
    except Untranslatable as reason:
        logger.debug("The view is not a condition on metadata fields: %s", reason)
        return None
    if isinstance(found, Constant):
        return "" if found.value else ids_in(PK, [""])
    return written(found)


def _rows(view: Any, columns: tuple[Column, ...], patches_field: str | None) -> Condition:
    view = view.view()
    dataset = view._root_dataset
    if dataset.media_type == fom.GROUP:
        raise Untranslatable("a grouped dataset")
    if not isinstance(view, fop.PatchesView):
        if view._is_patches or view._is_frames or view._is_clips:
            raise Untranslatable("a view of other documents than samples and patches")
        return pipeline.rows(_pipeline(view), sample_document(dataset, columns, patches_field))
    if patches_field != view.patches_field or view._is_frames:
        raise Untranslatable("patches of another field")
    if (view._patches_stage.config or {}).get("keep_label_lists"):
        raise Untranslatable("patches in lists")
    patch = patch_document(dataset, view._dataset, columns, view.patches_field)
    return every(
        _rows(view._source_collection, columns, patches_field),
        pipeline.rows(_pipeline(view), patch),
    )


def _pipeline(view: Any) -> list[dict[str, Any]]:
    # Before FiftyOne copies the IDs of a stage that has too many anyway
    for stage in view._stages:
        if len(getattr(stage, "sample_ids", None) or ()) > MAX_EXPRESSION_IDS:
            raise Untranslatable("a selection of many samples")
    found: list[dict[str, Any]] = view._pipeline()
    return found
