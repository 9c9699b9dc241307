"""An index is made from a Parquet file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.moving.destination import Destination
from fiftyone_milvus.moving.migration import (
    TAKEN_OVER,
    check_key,
    given,
    make_config,
    metric_of,
    register,
)
from fiftyone_milvus.moving.parquet import FileInfo
from fiftyone_milvus.moving.sources.file import FileSource
from fiftyone_milvus.moving.transfer import transfer
from fiftyone_milvus.numbers import check_batch_size
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)

_KINDS: Mapping[str, type] = {"model_kwargs": dict, "supports_prompts": bool}
"""Of what a file records of an index; the others are strings."""


@dataclass(frozen=True)
class Imported:
    """What :func:`import_index` did.

    Attributes:
        brain_key: of the new run
        collection: the name of the new Milvus collection
        address: where that is, without credentials
        vectors: how many it has
        copied: how many were written by this call; the others by an earlier one
        unknown: how many rows of the file are of no sample or patch of the dataset, and were left
            out
        missing: how many samples or patches of the dataset have no vector; ``sync()`` adds them
        skipped: why vectors were left out, by sample or label ID: NaN, infinity, or zero under
            cosine
        seconds: how long it took
    """

    brain_key: str
    collection: str
    address: str
    vectors: int
    copied: int
    unknown: int
    missing: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = [
            f"'{self.brain_key}' in '{self.collection}' at {self.address}: {self.vectors} vectors, "
            f"{self.copied} of them written now, in {self.seconds:.1f} s"
        ]
        for count, text in (
            (len(self.skipped), "that Milvus can't hold left out"),
            (self.unknown, "of no sample left out"),
            (self.missing, "samples without a vector"),
        ):
            if count:
                parts.append(f"{count} {text}")
        return ", ".join(parts)


def import_index(
    path: str | os.PathLike[str],
    dataset: Any,
    brain_key: str,
    *,
    overwrite: bool = False,
    skip_unknown: bool = True,
    batch_size: int | None = None,
    progress: Any = None,
    **config: Any,
) -> Imported:
    """Makes an index from a Parquet file, as :func:`export_index` writes it, or another program.

    The file needs the columns ``pk``, with sample IDs, or label IDs for patches, and ``vector``,
    with lists of floats; a file of others says no metric and no patches, so pass ``metric=`` and
    ``patches_field=``. Fields beside the vectors get the dataset's values, not the file's.

    Everything is checked before anything is written, each vector too. Of what the file records,
    only how the index was made is taken, not where it was. If it is interrupted, the same call goes
    on from there; the run is stored when all is there.

    Example::

        from fiftyone_milvus import moving

        moving.import_index("similar.parquet", dataset, "similar")

    Args:
        path: of the file
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the new run
        overwrite (False): whether a run of that key may be replaced
        skip_unknown (True): whether to leave out rows whose sample, or label, the dataset does
            not have, or to raise an error. They are left out by default, as a file is often of an
            older or a larger dataset, and no search could return them
        batch_size (None): how many vectors to read at a time. By default, 8 MB of them
        progress (None): whether to show progress bars, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says
        **config: what :class:`fiftyone_milvus.backend.MilvusSimilarityConfig` takes. By default,
            metric, model, patches and the fields beside the vectors are those that the file records

    Returns:
        an :class:`Imported`

    Raises:
        InvalidInputError: if an argument or the file can't be used, or none of its rows is of the
            dataset
        CollectionMismatchError: if ``collection_name`` is given and exists
        EngineError: if what was written is not what was read
        FiftyOneMilvusError: if Milvus does not answer
    """
    start = time.monotonic()
    config = given(config)
    check_key(dataset, brain_key, overwrite=overwrite)
    size = check_batch_size(batch_size)
    with FileSource(path) as source:
        made = make_config({**_recorded(source, config), **config})
        patches = made.patches_field
        if patches is not None and not dataset.has_field(patches):
            raise InvalidInputError(
                f"The {source.name} has patches in '{patches}', which dataset '{dataset.name}' "
                "does not have; pass patches_field="
            )
        asked = expected_rows.read(dataset, patches)
        held = source.holds(asked)
        unknown, known = held.others or 0, int(np.count_nonzero(held.present))
        if unknown and (not skip_unknown or not known):
            raise InvalidInputError(
                f"The {source.name} has {unknown} rows of no "
                f"{'sample' if patches is None else 'patch'} of dataset '{dataset.name}', and "
                f"{known} that are; "
                + ("pass skip_unknown=True to leave them out" if known else "it is of another one")
            )
        destination = Destination(dataset, brain_key, made, source.origin)
        moved = transfer(
            source,
            held,
            destination,
            asked,
            title="Importing vectors into Milvus",
            batch_size=size,
            progress=progress,
        )
        destination.record_embedded(source.embedded)
        register(dataset, dataset, brain_key, destination)
    destination.complete()
    vectors = moved.copied + moved.present
    done = Imported(
        brain_key=brain_key,
        collection=str(made.collection_name),
        address=destination.index.connection.target.address,
        vectors=vectors,
        copied=moved.copied,
        unknown=unknown,
        missing=len(asked) - vectors,
        skipped=moved.skipped,
        seconds=time.monotonic() - start,
    )
    logger.info("%s", done)
    return done


def _recorded(source: FileSource, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that a file records."""
    info: FileInfo | None = source.info
    if info is None:
        if "metric" not in given:
            raise InvalidInputError(
                f"The {source.name} does not say which metric its vectors are for; pass metric="
            )
        return {}
    # Who made the file has no say in where the index is, and with whose credentials
    made_with = {name: info.made_with.get(name) for name in TAKEN_OVER}
    for name, value in made_with.items():
        if not isinstance(value, (_KINDS.get(name, str), type(None))):
            raise InvalidInputError(
                f"The metadata of the {source.name} can't be read ('{name}' is {value!r}); export "
                "it again"
            )
    recorded = {**made_with, "fields": list(info.index_fields) or None}
    if "metric" not in given:
        recorded["metric"] = metric_of(info, info.brain_key)
    return recorded
