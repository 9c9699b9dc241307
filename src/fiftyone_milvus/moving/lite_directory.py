"""Exclusive use of a Milvus Lite directory that the built-in backend has open in this process."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fiftyone_milvus import embedded
from fiftyone_milvus.moving import builtin, runs

logger = logging.getLogger(__name__)


@contextmanager
def used_exclusively(dataset: Any, key: str) -> Iterator[list[str]]:
    """Lets a block use the directory of a built-in run, and opens it for that run again afterwards.

    It stays closed if the run belongs to this package by then.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the run

    Yields:
        a list to add directories to that must stay with this package
    """
    index = runs.cached(dataset, key)
    path = builtin.open_directory(index)
    kept: list[str] = []
    try:
        yield kept
    finally:
        closed = builtin.open_directory(index) is None and runs.cached(dataset, key) is index
        if path is not None and closed and os.path.realpath(path) not in kept:
            _reopen(dataset, key, index, path)


def _reopen(dataset: Any, key: str, index: Any, path: str) -> None:
    try:
        embedded.stop(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses pymilvus' ORM
            # The cached index has lost its connection
            index._initialize()
    except Exception as error:
        # Only logged: an error of the block matters more
        runs.forget(dataset, key)
        logger.warning(
            "The built-in backend could not open '%s' again: %s; load the run '%s' again, with "
            "uri=",
            path,
            error,
            key,
        )
