"""Migrates a similarity index of any FiftyOne backend to a Milvus."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import fiftyone.brain as fb

from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.moving import runs
from fiftyone_milvus.moving.destination import Destination
from fiftyone_milvus.moving.lite_directory import used_exclusively
from fiftyone_milvus.moving.sources import open_source
from fiftyone_milvus.moving.transfer import transfer
from fiftyone_milvus.numbers import check_batch_size, check_flag
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)

METRICS = {
    "cosine": "cosine",
    "euclidean": "euclidean",
    "l2": "euclidean",
    "dotproduct": "dotproduct",
    "innerproduct": "dotproduct",
}
"""The names of metrics in FiftyOne's backends, and in this package."""

MADE_WITH = (
    *("embeddings_field", "model", "model_kwargs", "patches_field", "roi_field"),
    "supports_prompts",
)
"""The parameters that a moved run keeps."""


@dataclass(frozen=True)
class Migration:
    """What :func:`migrate` did.

    Attributes:
        brain_key: the brain key of the new run
        source: the source of the vectors, for example ``"sklearn index 'similar'"``
        collection: the name of the new Milvus collection
        address: the address of the Milvus, without credentials
        vectors: the number of vectors in the collection
        copied: the number of them that this call wrote; an earlier call wrote the others
        skipped: for each sample or label ID that was left out, what is wrong with its vector: NaN,
            infinity, or zero for the metric cosine
        others: the number of vectors of the source without a sample or patch in the dataset, which
            were left out; None if its backend does not tell
        compared: the number of vectors that were read back and found equal
        seconds: the duration
    """

    brain_key: str
    source: str
    collection: str
    address: str
    vectors: int
    copied: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    others: int | None = 0
    compared: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = [
            f"{self.source} moved to '{self.collection}' at {self.address} as '{self.brain_key}': "
            f"{self.vectors} vectors, {self.copied} of them now, in {self.seconds:.1f} s"
        ]
        if self.skipped:
            parts.append(f"{len(self.skipped)} that Milvus can't hold left out")
        if self.others:
            parts.append(f"{self.others} without a sample left out")
        return ", ".join(parts)


@needs_database
def migrate(
    dataset: Any,
    brain_key: str,
    new_brain_key: str | None = None,
    *,
    overwrite: bool = False,
    batch_size: int | None = None,
    progress: Any = None,
    **config: Any,
) -> Migration:
    """Migrates a similarity index of any FiftyOne backend to a Milvus, without embedding again.

    Vectors are read and written in batches, in bounded memory if the source's backend can. After an
    interruption or an error, the old run is unchanged and the same call continues. When all vectors
    are there, their number and a sample of them are compared with the source, and only then is the
    new run stored. Don't add vectors to the source meanwhile.

    The old index's own data, a table or a collection, stays. What FiftyOne stores of a run that is
    replaced, such as the vectors of an ``sklearn`` index, is deleted.

    Example::

        from fiftyone_milvus import moving

        moving.migrate(dataset, "similar", uri="http://localhost:19530", index_type="HNSW")

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: the brain key of the run to migrate. Its address is the one that it was loaded
            with in this process, else that of FiftyOne's brain config
        new_brain_key (None): the brain key of the new run. By default, it replaces the old one
        overwrite (False): whether a run with the key ``new_brain_key`` may be replaced
        batch_size (None): the number of vectors to read at a time. By default, 8 MB of them
        progress (None): whether to show progress bars, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says
        **config: parameters of :class:`fiftyone_milvus.backend.MilvusSimilarityConfig`, such as
            ``uri=``, ``token=``, ``index_type=`` and ``fields=``. By default, metric and metadata
            fields are the source's

    Returns:
        a :class:`Migration`

    Raises:
        InvalidInputError: if an argument can't be used, there is no such run, or Milvus does not
            have its metric
        CollectionNotFoundError: if the source is in Milvus, and its collection does not exist
        CollectionMismatchError: if ``collection_name`` is given and exists
        EngineError: if the new index does not have the vectors of the source
        FiftyOneMilvusError: if Milvus does not answer
    """
    runs.check_dataset(dataset)
    start = time.monotonic()
    overwrite = check_flag("overwrite", overwrite)
    key = brain_key if new_brain_key is None else new_brain_key
    check_key(dataset, key, overwrite=overwrite or key == brain_key)
    size = check_batch_size(batch_size)
    config = given(config)
    with used_exclusively(dataset, brain_key) as kept:
        source, old = open_source(dataset, brain_key)
        taken = {name: getattr(old, name, None) for name in (*MADE_WITH, "fields")}
        if "metric" not in config:
            taken["metric"] = metric_of(old, brain_key)
        made = make_config({**taken, **config})
        samples = runs.samples(dataset, brain_key)
        asked = expected_rows.read(samples, made.patches_field)
        held = source.holds(asked)
        origin = {"from": source.name, "made": runs.made(dataset, brain_key)}
        destination = Destination(samples, key, made, origin)
        title = "Moving vectors to Milvus"
        moved = transfer(
            source, held, destination, asked, title=title, batch_size=size, progress=progress
        )
        destination.store(dataset, source.embedded)
        address = destination.index.connection.target.address
        kept.append(address)
    done = Migration(
        brain_key=key,
        source=source.name,
        collection=str(made.collection_name),
        address=address,
        vectors=moved.vectors,
        copied=moved.copied,
        skipped=moved.skipped,
        others=held.others,
        compared=moved.compared,
        seconds=time.monotonic() - start,
    )
    logger.info("%s", done)
    return done


def metric_of(config: Any, key: str) -> str:
    """Returns this package's name of the metric of a run.

    Raises:
        InvalidInputError: if Milvus does not have it, or the run records none
    """
    recorded = getattr(config, "metric", None)
    if recorded in METRICS:
        return METRICS[recorded]
    what = (
        f"has metric {recorded!r}, which Milvus does not have" if recorded else "records no metric"
    )
    raise InvalidInputError(
        f"Index '{key}' {what}; choose one of 'cosine', 'dotproduct' and 'euclidean', and pass it "
        "as metric="
    )


def given(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that are not None, which stands for the default."""
    return {name: value for name, value in config.items() if value is not None}


def make_config(parameters: Mapping[str, Any]) -> MilvusSimilarityConfig:
    """Returns a config of parameters and FiftyOne's brain config, like compute_similarity()."""
    configured = deepcopy(dict(fb.brain_config.similarity_backends.get("milvus", {})))
    configured.pop("config_cls", None)
    return MilvusSimilarityConfig(**{**configured, **given(parameters)})


def check_key(dataset: Any, key: Any, *, overwrite: bool) -> None:
    """Raises InvalidInputError if a run can't be stored under a key."""
    if not isinstance(key, str) or not key.isidentifier():
        raise InvalidInputError(f"Invalid brain key {key!r}; expected a valid variable name")
    if key in dataset.list_brain_runs() and not overwrite:
        raise InvalidInputError(
            f"Dataset '{dataset.name}' already has a brain run '{key}'; pass overwrite=True to "
            "replace it, or another key"
        )
