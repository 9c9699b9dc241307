"""Private parts of FiftyOne, or an error that names the versions that have them."""

from __future__ import annotations

import importlib
from typing import Any

from fiftyone_milvus.errors import EngineError, incompatible

_UTILS = "fiftyone.brain.internal.core.utils"


def member(owner: Any, name: str) -> Any:
    """Returns an attribute of a class or object of FiftyOne's.

    Raises:
        EngineError: if this FiftyOne does not have it
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        cls = owner if isinstance(owner, type) else type(owner)
        raise EngineError(incompatible("fiftyone", f"no {cls.__name__}.{name}")) from None


def brain_util(name: str) -> Any:
    """Returns a function of ``fiftyone.brain.internal.core.utils``.

    Raises:
        EngineError: if this FiftyOne does not have it
    """
    try:
        return getattr(importlib.import_module(_UTILS), name)
    except (ImportError, AttributeError):
        raise EngineError(incompatible("fiftyone", f"no {_UTILS}.{name}")) from None
