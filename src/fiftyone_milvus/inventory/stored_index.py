"""Opens the indexes of stored runs, without FiftyOne's cache of loaded runs."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex


@needs_database
def keys(dataset: Any) -> list[str]:
    """Returns the brain keys of a dataset's Milvus indexes, in the order of the runs.

    Runs of FiftyOne's built-in ``milvus`` backend are not among them.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
    """
    return [key for key in dataset.list_brain_runs() if config_of(dataset, key) is not None]


def config_of(dataset: Any, key: str) -> MilvusSimilarityConfig | None:
    """Returns the config of a run, or None if this package did not make it."""
    try:
        config = dataset.get_brain_info(key).config
    except (ImportError, AttributeError, ValueError):
        # The class of the config may be of a package that is not installed
        return None
    return config if isinstance(config, MilvusSimilarityConfig) else None


@needs_database
def open_index(dataset: Any, key: str) -> MilvusSimilarityIndex:
    """Returns the index of a run, with the credentials of this process; connects to nothing.

    FiftyOne caches only a few loaded runs of a dataset, and some have credentials that were given
    as keyword arguments. So an index that is only inspected must not get into that cache.

    Raises:
        InvalidInputError: if there is no such run, or this package did not make it
    """
    exists = key in dataset.list_brain_runs()
    config = config_of(dataset, key) if exists else None
    if config is None:
        known = ", ".join(map(repr, keys(dataset))) or "none: create one first"
        if not exists:
            raise InvalidInputError(
                f"Dataset '{dataset.name}' has no brain run '{key}'; its Milvus indexes are {known}"
            )
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' is not an index of fiftyone-milvus; "
            f"those are {known}"
        )
    if MilvusSimilarity.has_cached_run_results(dataset, key):
        return dataset.load_brain_results(key)
    config.load_credentials()
    return MilvusSimilarityIndex(dataset, config, key, backend=MilvusSimilarity(config))
