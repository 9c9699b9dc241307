"""FiftyOne's configuration, read without an import of FiftyOne, which takes seconds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def setting(name: str, default: Any = None) -> Any:
    """Returns a setting as FiftyOne finds it: in the environment, then in its config file.

    Of a process that has imported FiftyOne, returns what is set there.

    Args:
        name: the setting's, such as ``"database_dir"``
        default (None): what to return if it is not set
    """
    running = getattr(sys.modules.get("fiftyone"), "config", None)
    if hasattr(running, name):
        return getattr(running, name)
    if found := os.environ.get(f"FIFTYONE_{name.upper()}"):
        return found
    named = os.environ.get("FIFTYONE_CONFIG_PATH")
    path = Path(named) if named else directory() / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return default  # FiftyOne itself reports a config that it can't read
    return default if found is None else found


def directory() -> Path:
    """Returns the directory of FiftyOne's own files."""
    return Path.home() / ".fiftyone"


def database_dir() -> Path:
    """Returns the directory of the database that FiftyOne starts if no address is given."""
    found = setting("database_dir", directory() / "var" / "lib" / "mongo")
    return Path(os.path.abspath(os.path.expanduser(found)))
