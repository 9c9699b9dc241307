"""Stores the distances of results in a field of the dataset.

FiftyOne's ``set_values()`` marks samples as modified. Then the metadata fields of every index would
not be up to date until ``sync_fields()``, and ``sync(refresh=True)`` would embed the samples again,
for a number that a search has written. So distances are written without that mark, unless an index
has the field as a metadata field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as foo
from bson import ObjectId
from pymongo import UpdateOne

from fiftyone_milvus.dataset.internals import member


def store(samples: Any, field: str, ids: Sequence[str], distances: Sequence[float]) -> None:
    """Stores distances in a field of samples, or of patches in a patches view.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        field: the name of a float field, which is created if necessary
        ids: sample IDs, or the IDs of patches in a patches view
        distances: a float for each
    """
    dataset = samples._root_dataset
    if samples._is_generated or not _is_ours(dataset, field):
        samples.set_values(field, dict(zip(ids, distances)), key_field="id")
        return
    _write(
        dataset,
        field,
        (
            UpdateOne({"_id": ObjectId(i)}, {"$set": {field: distance}})
            for i, distance in zip(ids, distances)
        ),
        ids,
    )


def store_on_labels(
    samples: Any,
    patches_field: str,
    field: str,
    sample_ids: Sequence[str],
    label_ids: Sequence[str],
    distances: Sequence[float],
) -> None:
    """Stores distances on labels, also if they are in a list.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        patches_field: the field of the labels
        field: the name of a float attribute of the labels, which is created if necessary
        sample_ids: the sample of each label
        label_ids: the labels
        distances: a float for each
    """
    dataset = samples._root_dataset
    _, path = samples._get_label_field_path(patches_field, field)
    if not _is_ours(dataset, path):
        values = [
            {"sample_id": sample, "label_id": label, "value": distance}
            for sample, label, distance in zip(sample_ids, label_ids, distances)
        ]
        dataset.set_label_values(path, values, dynamic=True)
        return
    root = path.rpartition(".")[0]
    in_list = root != patches_field
    key = f"{root}.$[label].{field}" if in_list else path
    _write(
        dataset,
        path,
        (
            UpdateOne(
                {"_id": ObjectId(sample)},
                {"$set": {key: distance}},
                array_filters=[{"label._id": ObjectId(label)}] if in_list else None,
            )
            for sample, label, distance in zip(sample_ids, label_ids, distances)
        ),
        sample_ids,
    )


def _write(dataset: Any, path: str, updates: Iterator[Any], sample_ids: Sequence[str]) -> None:
    if dataset.get_field(path) is None:
        dataset.add_sample_field(path, fo.FloatField)
    # Also reloads the samples that this process holds
    member(dataset, "_bulk_write")(list(updates), ids=list(dict.fromkeys(sample_ids)))


def _is_ours(dataset: Any, path: str) -> bool:
    """Whether a field may change without a mark: it has floats, and no index may hold it."""
    field = dataset.get_field(path)
    if field is not None and (
        not isinstance(field, fo.FloatField) or getattr(field, "read_only", False)
    ):
        return False
    runs = foo.get_db_conn().runs.find(
        {"_dataset_id": dataset._doc.id, "config.method": "milvus"}, {"config.fields": 1}
    )
    name = path.rpartition(".")[2]
    fields = [one for run in runs for one in run.get("config", {}).get("fields") or ()]
    return all(one.rpartition(".")[2] != name for one in fields)
