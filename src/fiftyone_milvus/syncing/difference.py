"""Which rows an index lacks, and which it has that were not expected."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.syncing.expected_rows import Expected


def _no_ids() -> IdArray:
    return np.empty(0, object_ids.DTYPE)


@dataclass(frozen=True)
class Unexpected:
    """Rows of an index that were not expected. Some may be of samples outside the view.

    Attributes:
        keys: the primary keys that are IDs of FiftyOne
        sample_ids: the sample of each; zeros where a row names no valid sample
        foreign: the other primary keys, which no sample or label can have
    """

    keys: IdArray = field(default_factory=_no_ids)
    sample_ids: IdArray = field(default_factory=_no_ids)
    foreign: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys) + len(self.foreign)


@dataclass(frozen=True)
class Difference:
    """An index compared with the expected rows.

    Attributes:
        present: for each expected key, whether the index has it
        unexpected: the other rows of the index
    """

    present: npt.NDArray[np.bool_]
    unexpected: Unexpected = field(default_factory=Unexpected)


def compare(collection: MilvusCollection, expected: Expected, *, patches: bool) -> Difference:
    """Reads every primary key of an index, and compares them with the expected ones.

    Sees what other processes have written. Needs memory for the IDs of both sides.

    Args:
        collection: the index's collection
        expected: the expected rows
        patches: whether the index holds patches, whose sample IDs must be read too
    """
    order = np.argsort(expected.keys, kind="stable")
    ordered = expected.keys[order]
    present = np.zeros(len(ordered), dtype=bool)
    keys, samples = [_no_ids()], [_no_ids()]
    foreign: list[str] = []
    for ids, sample_ids in collection.id_pages(strong=True, with_samples=patches):
        found, invalid = object_ids.from_strings(ids)
        if invalid.size:
            foreign += [ids[at] for at in invalid]
            left_out = set(invalid.tolist())
            sample_ids = [s for at, s in enumerate(sample_ids) if at not in left_out]
        at = np.minimum(np.searchsorted(ordered, found), max(len(ordered) - 1, 0))
        known = ordered[at] == found if len(ordered) else np.zeros(len(found), dtype=bool)
        present[at[known]] = True
        if not known.all():
            extra = np.flatnonzero(~known)
            keys.append(found[extra])
            samples.append(_samples_of([sample_ids[i] for i in extra]))
    unordered = np.empty_like(present)
    unordered[order] = present
    unexpected = Unexpected(np.concatenate(keys), np.concatenate(samples), tuple(foreign))
    return Difference(unordered, unexpected)


def look_up(collection: MilvusCollection, expected: Expected) -> Difference:
    """Asks only for the expected keys: faster if there are few, but finds no unexpected rows."""
    keys = object_ids.to_strings(expected.keys)
    existing = collection.existing(keys)
    return Difference(np.array([key in existing for key in keys], dtype=bool))


def _samples_of(sample_ids: list[str]) -> IdArray:
    """Returns sample IDs, with zeros in place of invalid ones."""
    found, invalid = object_ids.from_strings(sample_ids)
    samples = np.zeros(len(sample_ids), object_ids.DTYPE)
    samples[np.setdiff1d(np.arange(len(sample_ids)), invalid)] = found
    return samples
