"""What an index lacks, and what it has too much."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.syncing.expected_rows import Wanted


@dataclass(frozen=True)
class Surplus:
    """Rows of an index that were not asked for.

    Attributes:
        keys: those whose key is one of FiftyOne's IDs
        sample_ids: the sample of each
        others: the keys that are not, so no sample or label can have them
    """

    keys: IdArray = field(default_factory=lambda: np.empty(0, object_ids.DTYPE))
    sample_ids: IdArray = field(default_factory=lambda: np.empty(0, object_ids.DTYPE))
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """An index against what was asked for.

    Attributes:
        present: for each key that was asked for, whether the index has it
        surplus: the other rows of the index
    """

    present: npt.NDArray[np.bool_]
    surplus: Surplus = field(default_factory=Surplus)


def compare(collection: MilvusCollection, wanted: Wanted, *, patches: bool) -> Difference:
    """Reads every ID of an index and compares, in memory for the IDs of both sides.

    Sees what other processes have written.

    Args:
        collection: the index's collection
        wanted: what was asked for
        patches: whether the index holds patches, whose samples are to be read too
    """
    order = np.argsort(wanted.keys, kind="stable")
    ordered = wanted.keys[order]
    present = np.zeros(len(ordered), dtype=bool)
    keys: list[IdArray] = []
    samples: list[IdArray] = []
    others: list[str] = []
    for ids, sample_ids in collection.id_pages(strong=True, with_samples=patches):
        found, foreign = object_ids.from_strings(ids)
        if foreign.size:
            others += [ids[at] for at in foreign]
            strange = set(foreign.tolist())
            sample_ids = [s for at, s in enumerate(sample_ids) if at not in strange]
        at = np.minimum(np.searchsorted(ordered, found), max(len(ordered) - 1, 0))
        known = ordered[at] == found if len(ordered) else np.zeros(len(found), dtype=bool)
        present[at[known]] = True
        if not known.all():
            extra = np.flatnonzero(~known)
            keys.append(found[extra])
            samples.append(_samples_of([sample_ids[i] for i in extra], found[extra]))
    unordered = np.empty_like(present)
    unordered[order] = present
    return Difference(
        unordered,
        Surplus(_joined(keys), _joined(samples), tuple(others)) if keys or others else Surplus(),
    )


def look_up(collection: MilvusCollection, wanted: Wanted) -> Difference:
    """Asks for the wanted keys only: cheaper where they are few, and tells no surplus."""
    there = collection.existing(object_ids.to_strings(wanted.keys))
    present = [key in there for key in object_ids.to_strings(wanted.keys)]
    return Difference(np.array(present, dtype=bool))


def _samples_of(sample_ids: list[str], keys: IdArray) -> IdArray:
    """Returns sample IDs; a row without a proper one has that of no sample."""
    found, foreign = object_ids.from_strings(sample_ids)
    if not foreign.size:
        return found
    samples = np.zeros(len(keys), object_ids.DTYPE)
    samples[np.setdiff1d(np.arange(len(keys)), foreign)] = found
    return samples


def _joined(blocks: list[IdArray]) -> IdArray:
    return np.concatenate(blocks) if blocks else np.empty(0, object_ids.DTYPE)
