"""A Milvus Lite directory that the built-in backend holds in this process is borrowed from it."""

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
def borrowed(dataset: Any, key: str) -> Iterator[list[str]]:
    """Gives the directory of a run back after a block, unless the run is ours then.

    The index that FiftyOne keeps of the run has lost its connection when the directory was closed,
    so that is connected anew.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: of the run

    Yields:
        a list, for the directories that an index of ours needs from now on, which are kept
    """
    index = runs.cached(dataset, key)
    path = builtin.held(index)
    needed: list[str] = []
    try:
        yield needed
    finally:
        lent = builtin.held(index) is None and runs.cached(dataset, key) is index
        if path is not None and lent and os.path.realpath(path) not in needed:
            _give_back(dataset, key, index, path)


def _give_back(dataset: Any, key: str, index: Any, path: str) -> None:
    try:
        embedded.stop(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses pymilvus' ORM
            index._initialize()
    except Exception as error:
        # What raised before this, if anything did, is what the user has to know
        runs.forget(dataset, key)
        logger.warning(
            "The built-in backend could not open '%s' again: %s; load the run '%s' anew, with uri=",
            path,
            error,
            key,
        )
