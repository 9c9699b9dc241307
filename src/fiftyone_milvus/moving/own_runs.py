"""Runs of this package, opened where a call says that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.backend import MilvusSimilarity
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import config_of, open_index
from fiftyone_milvus.moving import builtin, runs


def open_at(dataset: Any, key: str, credentials: Mapping[str, Any]) -> MilvusSimilarityIndex:
    """Returns the index of a run; connects to nothing.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: of the run
        credentials: where it is; if none is given, as the run was loaded in this process, else as
            FiftyOne's brain config says

    Raises:
        InvalidInputError: if there is no such run, it is none of this package, or a credential
            has another name
    """
    found = builtin.given(credentials)
    config = config_of(dataset, key) if found else None
    if config is None:
        return open_index(dataset, key)
    config.load_credentials(**found)
    samples = runs.samples(dataset, key)
    return MilvusSimilarityIndex(samples, config, key, backend=MilvusSimilarity(config))
