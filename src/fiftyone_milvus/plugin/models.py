"""The zoo models that a form offers."""

from __future__ import annotations

import functools
import importlib
import os
import re
import time
from contextlib import suppress

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.zoo as foz

_SECONDS = 30
_TAKES = {True: "Takes text and images.", False: "Takes images, no text.", None: ""}


def names() -> tuple[list[str], list[str]]:
    """Returns the names of the zoo models that embed, and those of the others.

    FiftyOne reads all manifests for each list, and the App resolves a form at every keystroke. So
    the names are cached for half a minute, or until a source of models is added.
    """
    folder = fo.config.model_zoo_dir
    changed = os.stat(folder).st_mtime_ns if folder and os.path.isdir(folder) else 0
    return _read(folder, changed, int(time.monotonic() / _SECONDS))


def describe(name: str) -> str | None:
    """Returns whether a model takes text, is installed, or what it downloads; None if unknown.

    Args:
        name: the name of a zoo model; those that are links are not known
    """
    return _describe(name, int(time.monotonic() / _SECONDS))


@functools.lru_cache(maxsize=64)
def _describe(name: str, period: int) -> str | None:
    embeddings, others = names()
    if name not in embeddings and name not in others:
        return None
    model = foz.get_zoo_model(name)
    if not model.has_tag("embeddings"):
        return "It embeds nothing: choose another model"
    config = model.default_deployment_config_dict or {}
    text = True if model.has_tag("text-embeddings") else _takes_prompts(config.get("type"))
    if text is None and model.has_tag("official"):
        # FiftyOne's own models have the tag if they take text
        text = False
    said = (_TAKES[text], _needs(name), _downloads(name, model.size_bytes))
    return " ".join(filter(None, said))


def _takes_prompts(path: str | None) -> bool | None:
    """Whether the class of a model embeds prompts; None where it can't be imported."""
    with suppress(Exception):
        module, _, cls = (path or "").rpartition(".")
        return issubclass(getattr(importlib.import_module(module), cls), fom.PromptMixin)
    return None


def _needs(name: str) -> str:
    try:
        foz.ensure_zoo_model_requirements(name, error_level=0, log_success=False)
    except Exception as error:
        found = re.search(r"requires that '([^']+)'", str(error))
        package = found[1] if found else "a package"
        return f"Needs {package}, which is not installed: pip install {package}."
    return ""


def _downloads(name: str, size: int | None) -> str:
    there = foz.is_zoo_model_downloaded(name)
    much = f"{size / 1e6:,.0f} MB" if size else ""
    if there:
        return "Installed."
    if there is None:
        # It has no file of its own; a library may download one
        return f"Its library downloads {much} when it is first used." if much else "Installed."
    return f"Downloads {much or 'its files'} when it is first used."


@functools.lru_cache(maxsize=1)
def _read(folder: str, changed: int, period: int) -> tuple[list[str], list[str]]:
    """Reads the zoo; the arguments are the cache's key."""
    embeddings = foz.list_zoo_models(tags="embeddings") or []
    others = set(foz.list_zoo_models()).difference(embeddings)
    return embeddings, sorted(others)
