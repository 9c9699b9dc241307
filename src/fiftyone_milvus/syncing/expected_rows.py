"""Which rows the index of a dataset or view should have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fiftyone.core.patches as fop
import numpy as np
import numpy.typing as npt

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.schema.columns import label_root
from fiftyone_milvus.search.views import ViewScope, is_plain

_BATCH = 10_000


@dataclass(frozen=True)
class Expected:
    """The rows that the index of a dataset or view should have, in the order of the view.

    Attributes:
        keys: sample IDs, or the label IDs of patches
        documents: for each key, the ID of the view's document that contains it: the key itself in
            a view of samples or of patches
    """

    keys: IdArray
    documents: IdArray

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: npt.NDArray[np.intp]) -> Expected:
        """Returns the rows at some positions."""
        keys = self.keys[positions]
        return Expected(keys, keys if self.documents is self.keys else self.documents[positions])


def read(samples: Any, patches_field: str | None) -> Expected:
    """Reads the expected rows from FiftyOne's database.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection`
        patches_field: the field of the patches, or None for samples

    Raises:
        InvalidInputError: if ``samples`` are patches, and the index is of samples
    """
    patches = isinstance(samples, fop.PatchesView)
    if patches and patches_field is None:
        raise InvalidInputError(
            "These are patches, and the index is of samples; pass a view of samples, such as "
            "dataset.select(patches.values('sample_id'))"
        )
    if is_plain(samples) and not patches:
        if patches_field is not None:
            return _labels(samples, patches_field)
        keys = object_ids.read(samples)
        return Expected(keys, keys)
    rows = ViewScope(samples, patches_field).rows()
    keys = object_ids.from_strings(list(rows))[0]
    one_each = patches or patches_field is None
    return Expected(keys, keys if one_each else object_ids.from_strings(list(rows.values()))[0])


def existing(
    samples: Any, patches_field: str | None, keys: IdArray, sample_ids: IdArray
) -> npt.NDArray[np.bool_]:
    """Returns for some rows whether their sample, or label, is in the dataset now.

    Looks in the whole dataset, whatever the view, and only for these rows. So a row that another
    process adds at the same time, for a new sample, is not taken for a stale one.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection` of the index
        patches_field: the field of the patches, or None for samples
        keys: the rows' primary keys
        sample_ids: the sample of each
    """
    # Frames and clips are documents of a dataset of their own
    datasets = {id(d): d for d in (samples._root_dataset, samples._dataset)}
    found = np.zeros(len(keys), dtype=bool)
    for dataset in datasets.values():
        for start in range(0, len(keys), _BATCH):
            part = slice(start, start + _BATCH)
            found[part] |= _exist(dataset, patches_field, keys[part], sample_ids[part])
    return found


def _exist(
    dataset: Any, patches_field: str | None, keys: IdArray, sample_ids: IdArray
) -> list[bool]:
    project: dict[str, Any] = {"_id": True}
    if patches_field is not None:
        if not dataset.has_field(patches_field):
            return [False] * len(keys)
        root, _ = label_root(dataset, patches_field)
        project["labels"] = f"${root}._id"
    documents = object_ids.to_object_ids(np.unique(sample_ids))
    pipeline = [{"$match": {"_id": {"$in": documents}}}, {"$project": project}]
    found: set[bytes] = set()
    for doc in dataset._sample_collection.aggregate(pipeline):
        ids = [doc["_id"]] if patches_field is None else _listed(doc.get("labels"))
        found.update(i.binary for i in ids)
    raw = keys.tobytes()
    return [raw[i : i + 12] in found for i in range(0, len(raw), 12)]


def _labels(view: Any, patches_field: str) -> Expected:
    """Reads the label IDs of a plain view, without a string for each."""
    root, _ = label_root(view, patches_field)
    pipeline = [*view._pipeline(), {"$project": {"labels": f"${root}._id"}}]
    keys, documents = bytearray(), bytearray()
    for doc in view._dataset._sample_collection.aggregate(pipeline, allowDiskUse=True):
        labels = _listed(doc.get("labels"))
        keys += b"".join(i.binary for i in labels)
        documents += doc["_id"].binary * len(labels)
    return Expected(
        np.frombuffer(keys, object_ids.DTYPE),
        np.frombuffer(documents, object_ids.DTYPE),
    )


def _listed(labels: Any) -> list[Any]:
    if not isinstance(labels, list):
        labels = [labels]
    return [i for i in labels if i is not None]
