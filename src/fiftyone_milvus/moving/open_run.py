"""Opens runs of this package at an address that a call gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.backend import MilvusSimilarity
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import config_of, open_index
from fiftyone_milvus.moving import builtin, runs


def open_run(dataset: Any, key: str, credentials: Mapping[str, Any]) -> MilvusSimilarityIndex:
    """Returns the index of a run of this package; connects to nothing.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the run
        credentials: the address; by default that of the run as it is loaded in this process, else
            that of FiftyOne's brain config

    Raises:
        InvalidInputError: if there is no such run of this package, or a credential is unknown
    """
    found = builtin.given(credentials)
    config = config_of(dataset, key) if found else None
    if config is None:
        return open_index(dataset, key)
    config.load_credentials(**found)
    samples = runs.samples(dataset, key)
    return MilvusSimilarityIndex(samples, config, key, backend=MilvusSimilarity(config))
