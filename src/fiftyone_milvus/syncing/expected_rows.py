"""Which vectors a dataset or view asks for."""

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
class Wanted:
    """The keys that an index of a dataset or view has, in its order.

    Attributes:
        keys: sample IDs, or the label IDs of patches
        documents: for each key, the ID of the view's document that has it: the key itself where
            the view is of samples, or of patches
    """

    keys: IdArray
    documents: IdArray

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: npt.NDArray[np.intp]) -> Wanted:
        """Returns some of the keys."""
        keys = self.keys[positions]
        return Wanted(keys, keys if self.documents is self.keys else self.documents[positions])


def read(samples: Any, patches_field: str | None) -> Wanted:
    """Reads which vectors a dataset or view asks for.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection`
        patches_field: the field of the patches, or None for samples

    Raises:
        InvalidInputError: if these are patches, and the index is of samples
    """
    patches = isinstance(samples, fop.PatchesView)
    if patches_field is None:
        if patches:
            raise InvalidInputError(
                "These are patches, and the index is of samples; give a view of samples, as "
                "dataset.select(patches.values('sample_id'))"
            )
        return _same(object_ids.read(samples) if is_plain(samples) else _ids(samples, None)[0])
    if patches:
        return _same(_ids(samples, patches_field)[0])
    if is_plain(samples):
        return _labels(samples, patches_field)
    return Wanted(*_ids(samples, patches_field))


def still_there(
    samples: Any, patches_field: str | None, keys: IdArray, sample_ids: IdArray
) -> npt.NDArray[np.bool_]:
    """Returns which of some rows' samples, or labels, exist in the dataset now.

    Asks about these only, whatever the view: a row that another process has just added for a sample
    that has just been added is not stale.

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
    there: set[bytes] = set()
    for doc in dataset._sample_collection.aggregate(pipeline):
        ids = [doc["_id"]] if patches_field is None else _listed(doc.get("labels"))
        there.update(i.binary for i in ids)
    raw = keys.tobytes()
    return [raw[i : i + 12] in there for i in range(0, len(raw), 12)]


def _same(keys: IdArray) -> Wanted:
    return Wanted(keys, keys)


def _labels(view: Any, patches_field: str) -> Wanted:
    """Reads the label IDs of a plain view, without a string for each."""
    root, _ = label_root(view, patches_field)
    pipeline = [*view._pipeline(), {"$project": {"labels": f"${root}._id"}}]
    keys: list[bytes] = []
    documents: list[bytes] = []
    blocks: list[tuple[IdArray, IdArray]] = []

    def flush() -> None:
        blocks.append(
            (
                np.frombuffer(b"".join(keys), object_ids.DTYPE),
                np.frombuffer(b"".join(documents), object_ids.DTYPE),
            )
        )
        keys.clear()
        documents.clear()

    for doc in view._dataset._sample_collection.aggregate(pipeline, allowDiskUse=True):
        labels = _listed(doc.get("labels"))
        keys += [i.binary for i in labels]
        documents += [doc["_id"].binary] * len(labels)
        if len(keys) >= _BATCH:
            flush()
    flush()
    return Wanted(
        np.concatenate([block[0] for block in blocks]),
        np.concatenate([block[1] for block in blocks]),
    )


def _listed(labels: Any) -> list[Any]:
    if not isinstance(labels, list):
        labels = [labels]
    return [i for i in labels if i is not None]


def _ids(view: Any, patches_field: str | None) -> tuple[IdArray, IdArray]:
    rows = ViewScope(view, patches_field).rows()
    return object_ids.from_strings(list(rows))[0], object_ids.from_strings(list(rows.values()))[0]
