"""Takes tests of another module."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def of(module: ModuleType, *tests: str) -> dict[str, Any]:
    """Returns tests of a module, and all fixtures and helpers there, for ``globals().update()``.

    Args:
        module: one of those that test indexes
        tests: the names of the tests

    Raises:
        KeyError: if there is no such test
    """
    found = {
        name: value for name, value in vars(module).items() if not name.startswith(("__", "test_"))
    }
    return {**found, **{name: vars(module)[name] for name in tests}}
