"""Samples or patches that were found: as a view, and with a tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiftyone_milvus.dataset import limits


def view_of(dataset: Any, patches_field: str | None, ids: Sequence[str]) -> Any:
    """Returns a view of samples, or patches, in a given order.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        ids: sample IDs, or label IDs

    Raises:
        InvalidInputError: if there are more than a view can hold, about 420,000
    """
    limits.check_results(dataset, len(ids), 0 if patches_field is None else len(ids))
    samples = all_samples(dataset)
    if patches_field is not None:
        # FiftyOne stores a document for each patch of the view: only for these
        samples = samples.select_labels(ids=list(ids), fields=patches_field)
        samples = samples.to_patches(patches_field)
    return samples.select(ids, ordered=True)


def tag(dataset: Any, patches_field: str | None, ids: Sequence[str], name: str) -> None:
    """Tags samples, or labels.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the labels, or None for samples
        ids: sample IDs, or label IDs
        name: the tag
    """
    if not ids:
        return
    if patches_field is None:
        all_samples(dataset).select(ids).tag_samples(name)
    else:
        all_samples(dataset).select_labels(ids=list(ids), fields=patches_field).tag_labels(name)


def all_samples(dataset: Any) -> Any:
    """Returns a dataset with the samples of all group slices, if it is grouped."""
    if dataset.media_type == "group":
        return dataset.select_group_slices(_allow_mixed=True)
    return dataset
