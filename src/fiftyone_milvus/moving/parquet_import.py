"""Imports an index from a Parquet file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.patches import check_patches_field
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.moving import runs
from fiftyone_milvus.moving.destination import Destination
from fiftyone_milvus.moving.migration import (
    MADE_WITH,
    check_key,
    given,
    make_config,
    metric_of,
)
from fiftyone_milvus.moving.parquet import FileInfo
from fiftyone_milvus.moving.sources.file import FileSource
from fiftyone_milvus.moving.transfer import transfer
from fiftyone_milvus.numbers import check_batch_size, check_flag
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)

_KINDS: Mapping[str, type] = {"model_kwargs": dict, "supports_prompts": bool}
"""The types of parameters that a file records; the others are strings."""


@dataclass(frozen=True)
class Imported:
    """What :func:`import_index` did.

    Attributes:
        brain_key: the brain key of the new run
        collection: the name of the new Milvus collection
        address: the address of the Milvus, without credentials
        vectors: the number of vectors in the collection
        copied: the number of them that this call wrote; an earlier call wrote the others
        unknown: the number of rows of the file without a sample or patch in the dataset, which were
            left out
        missing: the number of samples or patches without a vector; ``sync()`` adds them
        skipped: for each sample or label ID that was left out, what is wrong with its vector: NaN,
            infinity, or zero for the metric cosine
        seconds: the duration
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
        counts = (
            (len(self.skipped), "that Milvus can't hold left out"),
            (self.unknown, "without a sample left out"),
            (self.missing, "samples without a vector"),
        )
        return (
            f"'{self.brain_key}' in '{self.collection}' at {self.address}: {self.vectors} vectors, "
            f"{self.copied} of them written now, in {self.seconds:.1f} s"
        ) + "".join(f", {count} {text}" for count, text in counts if count)


@needs_database
def import_index(
    path: str | os.PathLike[str],
    dataset: Any,
    brain_key: str,
    *,
    overwrite: bool = False,
    skip_unknown: bool = True,
    trust_model: bool = False,
    batch_size: int | None = None,
    progress: Any = None,
    **config: Any,
) -> Imported:
    """Makes an index from a Parquet file of :func:`export_index` or of another program.

    The file needs the columns ``pk``, with sample IDs or the label IDs of patches, and ``vector``,
    with lists of floats. A file of another program records no metric and no patches, so pass
    ``metric=`` and ``patches_field=``. Metadata fields get the dataset's values, not the file's.

    Everything is checked before anything is written, each vector too. Of the file's metadata, only
    the parameters of the index are used, never an address, and a model only if FiftyOne's model zoo
    knows its name. After an interruption, the same call continues; the run is stored at the end.

    Example::

        from fiftyone_milvus import moving

        moving.import_index("similar.parquet", dataset, "similar")

    Args:
        path: the path of the file
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: the brain key of the new run
        overwrite (False): whether a run with that key may be replaced
        skip_unknown (True): whether to leave out rows without a sample, or label, in the dataset;
            False raises an error. By default they are left out, as no search could return them, and
            files are often of an older or larger dataset
        trust_model (False): whether to use a ``model`` that FiftyOne's model zoo does not know, or
            ``model_kwargs``, that the file records. The zoo would run code of either at the first
            search by text
        batch_size (None): the number of vectors to read at a time. By default, 8 MB of them
        progress (None): whether to show progress bars, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says
        **config: parameters of :class:`fiftyone_milvus.backend.MilvusSimilarityConfig`. By default,
            metric, model, patches and metadata fields are those that the file records

    Returns:
        an :class:`Imported`

    Raises:
        InvalidInputError: if an argument or the file can't be used, or none of its rows has a
            sample or patch in the dataset
        CollectionMismatchError: if ``collection_name`` is given and exists
        EngineError: if the new index does not have the vectors of the file
        FiftyOneMilvusError: if Milvus does not answer
    """
    runs.check_dataset(dataset)
    start = time.monotonic()
    overwrite = check_flag("overwrite", overwrite)
    skip_unknown = check_flag("skip_unknown", skip_unknown)
    config = given(config)
    if not isinstance(trust_model, bool):
        raise InvalidInputError(f"Invalid trust_model {trust_model!r}; expected True or False")
    check_key(dataset, brain_key, overwrite=overwrite)
    size = check_batch_size(batch_size)
    with FileSource(path) as source:
        made = make_config({**_recorded(source, config, trust_model), **config})
        patches = made.patches_field
        try:
            check_patches_field(dataset, patches)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"The {source.name} has patches in '{patches}': {error}"
            ) from None
        asked = expected_rows.read(dataset, patches)
        held = source.holds(asked)
        unknown, known = held.others or 0, int(np.count_nonzero(held.present))
        if unknown and (not skip_unknown or not known):
            raise InvalidInputError(
                f"The {source.name} has {unknown} rows of no "
                f"{'sample' if patches is None else 'patch'} of dataset '{dataset.name}', and "
                f"{known} others; "
                + ("pass skip_unknown=True to leave them out" if known else "pass another dataset")
            )
        destination = Destination(dataset, brain_key, made, source.origin)
        title = "Importing vectors into Milvus"
        moved = transfer(
            source, held, destination, asked, title=title, batch_size=size, progress=progress
        )
        destination.store(dataset, source.embedded)
    done = Imported(
        brain_key=brain_key,
        collection=str(made.collection_name),
        address=destination.index.connection.target.address,
        vectors=moved.vectors,
        copied=moved.copied,
        unknown=unknown,
        missing=len(asked) - moved.vectors,
        skipped=moved.skipped,
        seconds=time.monotonic() - start,
    )
    logger.info("%s", done)
    return done


def _recorded(source: FileSource, given: Mapping[str, Any], trust_model: bool) -> dict[str, Any]:
    info: FileInfo | None = source.info
    if info is None:
        if "metric" not in given:
            raise InvalidInputError(
                f"The {source.name} does not record the metric of its vectors; pass metric="
            )
        return {}
    # A file must not decide the address or the credentials of an index
    made_with = {name: info.made_with.get(name) for name in MADE_WITH}
    for name, value in made_with.items():
        if not isinstance(value, (_KINDS.get(name, str), type(None))):
            raise InvalidInputError(
                f"The metadata of the {source.name} can't be read ('{name}' is {value!r}); export "
                "it again"
            )
    if "model" in given or "model_kwargs" in given:
        made_with["model_kwargs"] = None  # they are another model's
    if not trust_model and "model" not in given:
        _check_model(source, made_with["model"], made_with["model_kwargs"])
    recorded = {**made_with, "fields": list(info.index_fields) or None}
    if "metric" not in given:
        recorded["metric"] = metric_of(info, info.brain_key)
    return recorded


def _check_model(source: FileSource, model: Any, model_kwargs: Any) -> None:
    """Raises InvalidInputError unless a model is one of the zoo, without arguments.

    FiftyOne takes URLs and repositories for names, and arguments may name classes and files.
    """
    import fiftyone.zoo as foz

    if model_kwargs:
        what = "arguments for its model ('model_kwargs')"
    elif model and model not in _known(foz.list_zoo_models()):
        what = f"the model {model[:100]!r}, which FiftyOne's model zoo does not know"
    else:
        return
    raise InvalidInputError(
        f"The {source.name} records {what}, and a search by text would run its code; pass "
        "trust_model=True if you trust the file, or model= to name another"
    )


def _known(names: Sequence[str]) -> set[str]:
    return {*names, *(name.partition("@")[0] for name in names)}
