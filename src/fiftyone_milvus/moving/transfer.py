"""Vectors are moved from a source to a new index, and compared afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.moving.destination import Destination, Filled
from fiftyone_milvus.moving.sources import Held, Source
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.writing import validation

logger = logging.getLogger(__name__)

SAMPLE = 256
"""How many vectors are read back and compared."""

_TELL = 10


@dataclass(frozen=True)
class Transfer:
    """What was moved.

    Attributes:
        copied: vectors that were written
        present: those that an earlier call had written
        skipped: why some can't be in the index, by key
        compared: how many were read back, and equal
    """

    copied: int
    present: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    compared: int = 0


def transfer(
    source: Source,
    held: Held,
    destination: Destination,
    expected: Expected,
    *,
    title: str,
    batch_size: int | None = None,
    progress: Any = None,
) -> Transfer:
    """Moves what the destination lacks, and verifies it: by count, and by vectors read back.

    Args:
        source: where vectors come from
        held: which of the expected keys it has
        destination: where they go
        expected: the keys that the dataset has
        title: for the progress bar
        batch_size: how many vectors are read at a time
        progress: as FiftyOne's progress bars take it

    Raises:
        InvalidInputError: if the source has no vector that the dataset asks for
        EngineError: if the index is not what the source is
    """
    keys = expected.take(np.flatnonzero(held.present))
    if not len(keys):
        # Before what an earlier call has moved is compared with it, and removed
        raise _nothing(source)
    there = destination.difference(keys)
    present = int(np.count_nonzero(there))
    missing = keys.take(np.flatnonzero(~there))
    filled = destination.fill(
        source.rows(missing, batch_size), len(missing), title=title, progress=progress
    )
    if not present and not filled.count:
        raise _nothing(source)
    given = filled.count + len(filled.skipped)
    if held.exact and given != len(missing):
        raise EngineError(
            f"The {source.name} lists {len(missing)} vectors but gave {given}: it is being "
            "changed; try again"
        )
    total = present + filled.count
    compared = _compare(source, destination, _moved(held, destination, keys, filled))
    if compared is None and present:
        logger.info("The %s has changed since this was begun; moving all of it again", source.name)
        filled = destination.fill(
            source.rows(keys, batch_size), len(keys), title=title, progress=progress
        )
        total = filled.count
        compared = _compare(source, destination, _moved(held, destination, keys, filled))
    where = destination.index._collection.where
    if compared is None:
        raise EngineError(
            f"Vectors of the {where} are not those of the {source.name}, which is left as it was; "
            "drop the collection and try again"
        )
    if (found := destination.count()) != total:
        raise EngineError(
            f"The {where} has {found} vectors instead of {total}: something else writes to it; "
            f"drop it and try again. The {source.name} is left as it was"
        )
    if not compared:
        raise EngineError(
            f"The {source.name} gave vectors once but not again, so none of them could be "
            "compared: it is being changed; try again"
        )
    left = (held.total or 0) - total - len(filled.skipped)
    if left > 0:
        logger.warning(
            "The %s says that it has %d vectors, and %d were moved: those of samples and patches "
            "that the dataset has, and that it gives",
            source.name,
            held.total,
            total,
        )
    for key, why in list(filled.skipped.items())[:_TELL]:
        logger.warning("'%s' was left out: %s", key, why)
    return Transfer(filled.count, total - filled.count, filled.skipped, compared)


def _nothing(source: Source) -> InvalidInputError:
    return InvalidInputError(
        f"The {source.name} has no usable vector of this dataset's samples or patches, so there "
        "is nothing to move"
    )


def _moved(held: Held, destination: Destination, keys: Expected, filled: Filled) -> Expected:
    """Returns the keys that the destination has, where not all that were asked for are there."""
    if held.exact and not filled.skipped:
        return keys
    return keys.take(np.flatnonzero(destination.difference(keys)))


def _compare(source: Source, destination: Destination, keys: Expected) -> int | None:
    """Reads a sample of vectors back; returns how many, or None if one differs."""
    size = min(SAMPLE, len(keys))
    drawn = keys.take(np.sort(np.random.default_rng(0).choice(len(keys), size, replace=False)))
    metric = destination.index.config.metric
    found = destination.read(object_ids.to_strings(drawn.keys))
    table = dict(zip(found.ids, found.vectors))
    compared = 0
    for rows in source.rows(drawn):
        vectors = validation.as_vectors(rows.vectors, "embeddings")
        bad = validation.unusable(vectors, metric)
        for i, key in enumerate(rows.ids):
            if i in bad:
                continue
            if key not in table or not np.array_equal(table[key], vectors[i]):
                return None
            compared += 1
    return compared
