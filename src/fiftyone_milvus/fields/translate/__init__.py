"""A FiftyOne view as a Milvus filter expression over the columns that are beside the vectors.

What a view contains is what its MongoDB pipeline lets through. So that pipeline is run here, on
one document whose paths stand for columns instead of values: every stage, expression and query
then says on which *condition* on the columns it is true. However a view was written, in Python or
in the App's sidebar, and by whichever stage, it ends as these few operators of MongoDB.

Where a condition can't be said exactly, the view is not translated.
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
    """Returns the Milvus expression that says which rows are in a view.

    Nothing is read from MongoDB or Milvus.

    Args:
        view: a :class:`fiftyone.core.collections.SampleCollection` of the index's dataset
        columns: the fields beside the vectors
        patches_field: the field whose labels are the index's rows, or None for samples

    Returns:
        an expression whose rows are exactly the view's rows that are indexed, ``""`` for every
        row, or None if the columns don't tell which rows those are
    """
    try:
        found = _rows(view, tuple(columns), patches_field)
    except Untranslatable as reason:
        logger.debug("The view is no condition on synchronized fields: %s", reason)
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
            raise Untranslatable("a view of something else than samples and patches")
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
    # FiftyOne copies each stage's IDs: not for those that are too many anyway
    for stage in view._stages:
        if len(getattr(stage, "sample_ids", None) or ()) > MAX_EXPRESSION_IDS:
            raise Untranslatable("a selection of many samples")
    found: list[dict[str, Any]] = view._pipeline()
    return found
