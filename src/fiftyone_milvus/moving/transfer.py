"""Moves vectors from a source to a new index, and compares a sample of them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.moving.destination import Destination
from fiftyone_milvus.moving.sources import Held, Source
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.writing import validation

logger = logging.getLogger(__name__)

SAMPLE = 256
"""The number of vectors that are read back and compared."""

_LOGGED = 10


@dataclass(frozen=True)
class Transfer:
    """The outcome of a transfer.

    Attributes:
        copied: the number of vectors that were written
        present: the number of vectors that an earlier call had written
        skipped: for each key that was left out, why its vector can't be in the index
        compared: the number of vectors that were read back and found equal
    """

    copied: int
    present: int
    skipped: Mapping[str, str]
    compared: int

    @property
    def vectors(self) -> int:
        """The number of vectors in the new index."""
        return self.copied + self.present


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
    """Moves the vectors that the destination lacks, and verifies count and contents.

    Args:
        source: the source of the vectors
        held: which of the expected keys the source has
        destination: the new index
        expected: the keys of the dataset
        title: the text in front of the progress bar
        batch_size (None): the number of vectors to read at a time
        progress (None): a progress setting of FiftyOne

    Raises:
        InvalidInputError: if the source has no usable vector of the dataset
        EngineError: if the new index does not have the vectors of the source
    """
    keys = expected.take(np.flatnonzero(held.present))
    if not len(keys):
        # Before anything that an earlier call moved is removed
        raise _nothing(source)
    there = destination.difference(keys)
    while True:
        missing = keys.take(np.flatnonzero(~there))
        present = len(keys) - len(missing)
        filled = destination.fill(
            source.rows(missing, batch_size), len(missing), title=title, progress=progress
        )
        total = present + filled.count
        if not total:
            raise _nothing(source)
        given = filled.count + len(filled.skipped)
        if held.exact and given != len(missing):
            raise EngineError(
                f"The {source.name} lists {len(missing)} vectors but returned {given}: it is being "
                "changed; try again"
            )
        moved = keys
        if filled.skipped or not held.exact:
            moved = keys.take(np.flatnonzero(destination.difference(keys)))
        compared = _compare(source, destination, moved)
        if compared is not None or not present:
            break
        logger.info("The %s has changed since this was begun; moving all of it again", source.name)
        there = np.zeros(len(keys), dtype=bool)
    where = destination.index._collection.where
    if compared is None:
        raise EngineError(
            f"Vectors of the {where} differ from those of the {source.name}, which is unchanged; "
            "drop the collection and try again"
        )
    if (found := destination.count()) != total:
        raise EngineError(
            f"The {where} has {found} vectors instead of {total}: something else writes to it; "
            f"drop it and try again. The {source.name} is unchanged"
        )
    if not compared:
        raise EngineError(
            f"The {source.name} gave vectors once but not again, so none of them could be "
            "compared: it is being changed; try again"
        )
    if (held.total or 0) > total + len(filled.skipped):
        logger.warning(
            "The %s says that it has %d vectors, and %d were moved: those that it returned for "
            "the samples and patches of the dataset",
            source.name,
            held.total,
            total,
        )
    for key, why in list(filled.skipped.items())[:_LOGGED]:
        logger.warning("'%s' was left out: %s", key, why)
    return Transfer(filled.count, present, filled.skipped, compared)


def _nothing(source: Source) -> InvalidInputError:
    return InvalidInputError(
        f"The {source.name} has no usable vector of this dataset's samples or patches, so there "
        "is nothing to move"
    )


def _compare(source: Source, destination: Destination, keys: Expected) -> int | None:
    """Compares a sample of vectors; returns the number of equal ones, or None if one differs."""
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
