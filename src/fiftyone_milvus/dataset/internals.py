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


class _BrainUtils:
    """The functions of FiftyOne Brain's ``utils``, each looked up when it is needed."""

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(importlib.import_module(_UTILS), name)
        except (ImportError, AttributeError):
            raise EngineError(incompatible("fiftyone", f"no {_UTILS}.{name}")) from None


brain_utils = _BrainUtils()
"""The module ``fiftyone.brain.internal.core.utils``.

Raises:
    EngineError: if this FiftyOne does not have the function that is asked for
"""
