"""The zoo models that a form offers."""

from __future__ import annotations

import functools
import os
import time

import fiftyone as fo
import fiftyone.zoo as foz

_SECONDS = 30


def names() -> tuple[list[str], list[str]]:
    """Returns the names of the zoo models that embed, and those of the others.

    FiftyOne reads all manifests for each list, and the App resolves a form at every keystroke. So
    the names are cached for half a minute, or until a source of models is added.
    """
    folder = fo.config.model_zoo_dir
    changed = os.stat(folder).st_mtime_ns if folder and os.path.isdir(folder) else 0
    return _read(folder, changed, int(time.monotonic() / _SECONDS))


@functools.lru_cache(maxsize=1)
def _read(folder: str, changed: int, period: int) -> tuple[list[str], list[str]]:
    """Reads the zoo; the arguments are the cache's key."""
    embeddings = foz.list_zoo_models(tags="embeddings") or []
    others = set(foz.list_zoo_models()).difference(embeddings)
    return embeddings, sorted(others)
