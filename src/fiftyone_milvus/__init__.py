"""Milvus as FiftyOne's vector engine.

Importing this package makes ``backend="milvus"`` this one, in this process and those it starts::

    import fiftyone.brain as fob
    import fiftyone_milvus

    fob.compute_similarity(dataset, backend="milvus", brain_key="similar", model="...")

``fiftyone-milvus enable`` does so for every process of the user, the FiftyOne App's included.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from fiftyone_milvus._version import __version__
from fiftyone_milvus.setup import takeover

if TYPE_CHECKING:
    from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig
    from fiftyone_milvus.errors import FiftyOneMilvusError
    from fiftyone_milvus.everywhere import search_everywhere
    from fiftyone_milvus.index import MilvusSimilarityIndex
    from fiftyone_milvus.setup.takeover import disable, enable, is_enabled

__all__ = [
    "FiftyOneMilvusError",
    "MilvusSimilarity",
    "MilvusSimilarityConfig",
    "MilvusSimilarityIndex",
    "__version__",
    "disable",
    "enable",
    "is_enabled",
    "search_everywhere",
]

_HOMES = {
    "FiftyOneMilvusError": "errors",
    "MilvusSimilarity": "backend",
    "MilvusSimilarityConfig": "backend",
    "MilvusSimilarityIndex": "index",
    "disable": "setup.takeover",
    "enable": "setup.takeover",
    "is_enabled": "setup.takeover",
    "search_everywhere": "everywhere",
}


def __getattr__(name: str) -> Any:
    # FiftyOne takes seconds to import, which neither the embedded service nor --help wait for
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# FiftyOne's handlers and levels are those of its own logger
logging.getLogger(__name__).parent = logging.getLogger("fiftyone")

takeover.take_over()
