"""Private parts of Milvus Lite: which are there, and how they are replaced."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from fiftyone_milvus.errors import EmbeddedServiceError, incompatible

_PACKAGES = {"milvus_lite": "milvus-lite", "pymilvus": "pymilvus"}


def missing(needs: Iterable[str]) -> Iterator[str]:
    """Yields the needs that the installed Milvus Lite does not meet.

    Args:
        needs: names below ``milvus_lite``. ``module:Class.method(self, key)`` is a callable with
            exactly these parameters, ``module:Class#name`` an attribute that the constructor uses,
            and ``module:name`` anything else. ``module:name uses one two`` is a function whose
            code uses these names. ``a | b`` is met by either.
    """
    return (need for need in needs if not any(map(_is_met, need.split(" | "))))


def _is_met(need: str) -> bool:
    need, _, uses = need.partition(" uses ")
    module, _, path = need.partition(":")
    path, _, parameters = path.partition("(")
    path, _, attribute = path.partition("#")
    try:
        found: Any = importlib.import_module(f"milvus_lite.{module}")
        for name in path.split("."):
            found = getattr(found, name)
        if attribute:
            # Attributes of instances only: the names that the constructor's code uses.
            return attribute in found.__init__.__code__.co_names
        if uses and not set(uses.split()) <= set(inspect.unwrap(found).__code__.co_names):
            return False
        if parameters:
            return ", ".join(inspect.signature(found).parameters) == parameters.removesuffix(")")
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    return True


def unsupported(error: ImportError) -> EmbeddedServiceError:
    """Returns the error for a module, or a name of one, that can't be imported.

    Args:
        error: raised by the import

    Returns:
        one line; it names the versions that work if the module is Milvus Lite's or pymilvus'
    """
    reason = " ".join(str(error).split())
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    if package is None:
        return EmbeddedServiceError(f"the embedded engine can't start: {reason}")
    lacks = reason.partition(" (")[0].replace("No module", "no module")
    if lacks.startswith("cannot import name "):
        lacks = lacks.replace("cannot import name", "no").replace(" from ", " in ")
    return EmbeddedServiceError(f"the embedded engine can't start: {incompatible(package, lacks)}")


class Replacements:
    """Names of other modules and classes that are replaced, and can be restored."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replaces an attribute of a module or class."""
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Restores all that was replaced."""
        while self._originals:
            setattr(*self._originals.pop())
