"""Milvus as FiftyOne's vector engine.

Importing this package makes it the ``backend="milvus"`` of this process and of those it starts::

    import fiftyone.brain as fob
    import fiftyone_milvus

    fob.compute_similarity(dataset, backend="milvus", brain_key="similar", model="...")

``fiftyone-milvus enable`` does so for every process of the user, such as the FiftyOne App's server.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from fiftyone_milvus._version import __version__
from fiftyone_milvus.setup import takeover

if TYPE_CHECKING:
    from fiftyone_milvus import (
        embedded,
        errors,
        everywhere,
        inventory,
        moving,
        plugin,
        selections,
    )
    from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig
    from fiftyone_milvus.dataset.crops import Crop
    from fiftyone_milvus.errors import FiftyOneMilvusError
    from fiftyone_milvus.everywhere import search_everywhere
    from fiftyone_milvus.index import MilvusSimilarityIndex
    from fiftyone_milvus.setup.takeover import disable, enable, is_enabled

__all__ = [
    "Crop",
    "FiftyOneMilvusError",
    "MilvusSimilarity",
    "MilvusSimilarityConfig",
    "MilvusSimilarityIndex",
    "__version__",
    "disable",
    "embedded",
    "enable",
    "errors",
    "everywhere",
    "inventory",
    "is_enabled",
    "moving",
    "plugin",
    "search_everywhere",
    "selections",
]

_MODULES = {
    "Crop": "dataset.crops",
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
    # Imported on first use, as FiftyOne takes seconds, and --help and the service do not need it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, name)}")
    return getattr(module, name) if name in _MODULES else module


def __dir__() -> list[str]:
    return sorted(__all__)


# FiftyOne's handlers and levels are those of its own logger
logging.getLogger(__name__).parent = logging.getLogger("fiftyone")

takeover.take_over()
