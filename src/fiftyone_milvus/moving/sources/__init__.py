"""The sources of vectors: Milvus, any other backend of FiftyOne, or a file."""

from __future__ import annotations

from typing import Any

from fiftyone.brain.similarity import SimilarityConfig

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.inventory.stored_index import keys, open_index
from fiftyone_milvus.moving import builtin, runs
from fiftyone_milvus.moving.sources.base import Held, Source
from fiftyone_milvus.moving.sources.lance import LanceSource
from fiftyone_milvus.moving.sources.milvus import MilvusSource
from fiftyone_milvus.moving.sources.other import OtherSource

__all__ = ["Held", "Source", "open_source"]


def open_source(dataset: Any, key: str) -> tuple[Source, Any]:
    """Returns the vectors of a similarity run of any backend, and the run's config.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the run

    Raises:
        InvalidInputError: if there is no such run, or it is not a similarity index
    """
    document = runs.document(dataset, key)
    if key in keys(dataset):
        ours = open_index(dataset, key)
        return MilvusSource(ours), ours.config
    if builtin.is_builtin(document):
        ours, _ = builtin.as_ours(dataset, key, {})
        return MilvusSource(ours), ours.config
    config = dataset.get_brain_info(key).config
    if not isinstance(config, SimilarityConfig):
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' is not a similarity index but "
            f"{document.config.get('cls')}"
        )
    index = _load(dataset, key, config)
    if config.method == "lancedb" and hasattr(index.table, "search"):
        return LanceSource(index), config
    return OtherSource(index), config


def _load(dataset: Any, key: str, config: Any) -> Any:
    loaded = runs.cached(dataset, key)
    if config.method != "sklearn" and loaded is not None:
        return loaded  # with the credentials that it was loaded with
    index = dataset.load_brain_results(key, cache=False)
    if index is None:
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' has no results, as its creation "
            "failed; delete it with dataset.delete_brain_run()"
        )
    # Loaded again, as a search by sklearn subtracts the mean from the loaded vectors
    if loaded is not None and loaded.total_index_size != index.total_index_size:
        raise InvalidInputError(
            f"Index '{key}' has {loaded.total_index_size} vectors in this process but "
            f"{index.total_index_size} in FiftyOne's database; store them with "
            f"dataset.load_brain_results('{key}').save(), or call dataset.clear_cache()"
        )
    return index
