"""Takes the tests of another module."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any


def of(module: ModuleType, *, but: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the tests and fixtures of a module, for ``globals().update()``.

    Args:
        module: a module of the contract
        but: which not, and why
    """
    found = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    for name in but or {}:
        del found[name]
    return found
