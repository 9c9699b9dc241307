"""A similarity index of any backend moves to a Milvus."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import fiftyone.brain as fb

from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.moving import runs
from fiftyone_milvus.moving.destination import Destination
from fiftyone_milvus.moving.lite_directory import borrowed
from fiftyone_milvus.moving.sources import open_source
from fiftyone_milvus.moving.transfer import transfer
from fiftyone_milvus.numbers import check_batch_size
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)

METRICS = {
    "cosine": "cosine",
    "euclidean": "euclidean",
    "l2": "euclidean",
    "dotproduct": "dotproduct",
    "innerproduct": "dotproduct",
}
"""What FiftyOne's backends call their metrics, and what this package does."""

TAKEN_OVER = (
    "embeddings_field",
    "model",
    "model_kwargs",
    "patches_field",
    "roi_field",
    "supports_prompts",
)
"""What a moved run keeps of what it was made with."""


@dataclass(frozen=True)
class Migration:
    """What :func:`migrate` did.

    Attributes:
        brain_key: of the new run
        source: what the vectors came from, as ``"sklearn index 'similar'"``
        collection: the name of the new Milvus collection
        address: where that is, without credentials
        vectors: how many it has
        copied: how many were written by this call; the others by an earlier one
        skipped: why vectors were left out, by sample or label ID: NaN, infinity, or zero under
            cosine
        others: how many vectors of the source are of no sample or patch of the dataset, and were
            left out; None if its backend does not tell
        compared: how many vectors were read back, and found equal
        seconds: how long it took
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
            parts.append(f"{self.others} of no sample left out")
        return ", ".join(parts)


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
    """Moves a similarity index of any FiftyOne backend to a Milvus, without embedding anew.

    Vectors are read and written a batch at a time, in bounded memory if the source's backend can.
    If it is interrupted, or fails, the old run is as it was, and the same call goes on from there.
    When all are there, their number and a sample of them are compared with the source, and only
    then is the new run stored. Don't add vectors to the source meanwhile.

    The old index's own data, a table or a collection, stays where it is; what FiftyOne stores of a
    run that is replaced, as the vectors of an ``sklearn`` index, goes.

    Example::

        from fiftyone_milvus import moving

        moving.migrate(dataset, "similar", uri="http://localhost:19530", index_type="HNSW")

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the run to move. Its address is that with which it is loaded in this
            process, else that of FiftyOne's brain config
        new_brain_key (None): of the new run. By default, it replaces the old one
        overwrite (False): whether a run with the key ``new_brain_key`` may be replaced
        batch_size (None): how many vectors to read at a time. By default, 8 MB of them
        progress (None): whether to show progress bars, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says
        **config: what :class:`fiftyone_milvus.backend.MilvusSimilarityConfig` takes: where to, as
            ``uri=`` and ``token=``, and how, as ``index_type=`` and ``fields=``. By default the
            metric and the fields beside the vectors are the source's

    Returns:
        a :class:`Migration`

    Raises:
        InvalidInputError: if an argument can't be used, there is no such run, or Milvus does not
            have its metric
        CollectionNotFoundError: if the source is in Milvus, and its collection is not there
        CollectionMismatchError: if ``collection_name`` is given and exists
        EngineError: if what was written is not what was read
        FiftyOneMilvusError: if Milvus does not answer
    """
    key = brain_key if new_brain_key is None else new_brain_key
    check_key(dataset, key, overwrite=overwrite or key == brain_key)
    size = check_batch_size(batch_size)
    with borrowed(dataset, brain_key) as needed:
        done = _migrate(dataset, brain_key, key, given(config), size, progress)
        needed.append(done.address)
    logger.info("%s", done)
    return done


def _migrate(
    dataset: Any,
    brain_key: str,
    key: str,
    config: Mapping[str, Any],
    batch_size: int | None,
    progress: Any,
) -> Migration:
    start = time.monotonic()
    source, old = open_source(dataset, brain_key)
    made = make_config(
        {
            **{name: getattr(old, name, None) for name in TAKEN_OVER},
            "metric": config["metric"] if "metric" in config else metric_of(old, brain_key),
            "fields": getattr(old, "fields", None),
            **config,
        }
    )
    samples = runs.samples(dataset, brain_key)
    asked = expected_rows.read(samples, made.patches_field)
    held = source.holds(asked)
    origin = {"from": source.name, "made": runs.made(dataset, brain_key)}
    destination = Destination(samples, key, made, origin)
    moved = transfer(
        source,
        held,
        destination,
        asked,
        title="Moving vectors to Milvus",
        batch_size=batch_size,
        progress=progress,
    )
    destination.record_embedded(source.embedded)
    register(dataset, samples, key, destination)
    destination.complete()
    return Migration(
        brain_key=key,
        source=source.name,
        collection=str(made.collection_name),
        address=destination.index.connection.target.address,
        vectors=moved.copied + moved.present,
        copied=moved.copied,
        skipped=moved.skipped,
        others=held.others,
        compared=moved.compared,
        seconds=time.monotonic() - start,
    )


def metric_of(config: Any, key: str) -> str:
    """Returns the metric of a run, as this package calls it.

    Raises:
        InvalidInputError: if Milvus has none like it, or the run records none
    """
    recorded = getattr(config, "metric", None)
    if recorded in METRICS:
        return METRICS[recorded]
    what = f"has metric {recorded!r}, which Milvus has not" if recorded else "records no metric"
    raise InvalidInputError(
        f"Index '{key}' {what}; choose one of 'cosine', 'dotproduct' and 'euclidean', and pass it "
        "as metric="
    )


def given(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that were given: None stands for the default, as everywhere."""
    return {name: value for name, value in config.items() if value is not None}


def make_config(parameters: Mapping[str, Any]) -> MilvusSimilarityConfig:
    """Returns a config as compute_similarity() makes it: given parameters over the brain config."""
    configured = deepcopy(dict(fb.brain_config.similarity_backends.get("milvus", {})))
    configured.pop("config_cls", None)
    return MilvusSimilarityConfig(**{**configured, **given(parameters)})


def check_key(dataset: Any, key: Any, *, overwrite: bool) -> None:
    """Raises if a run can't be stored under a key."""
    if not isinstance(key, str) or not key.isidentifier():
        raise InvalidInputError(f"Invalid brain key {key!r}; expected a valid variable name")
    if key in dataset.list_brain_runs() and not overwrite:
        raise InvalidInputError(
            f"Dataset '{dataset.name}' has a brain run '{key}' already; pass overwrite=True to "
            "replace it, or another key"
        )


def register(dataset: Any, samples: Any, key: str, destination: Destination) -> None:
    """Stores the run of a complete index; replaces one of the same key atomically."""
    index = destination.index
    if key not in dataset.list_brain_runs():
        MilvusSimilarity.save_run_results(samples, key, index)
        return
    runs.rewrite(dataset, key, index.config.serialize(), index.serialize(), of=samples)
    # With the credentials of this call, as compute_similarity() does
    runs.remember(dataset, key, index)
