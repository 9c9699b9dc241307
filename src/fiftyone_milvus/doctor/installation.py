"""Checks what is installed and configured on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from packaging.requirements import Requirement

from fiftyone_milvus.doctor.verdict import checked

_SHOWN = ("fiftyone-milvus", "fiftyone", "fiftyone-brain", "pymilvus", "milvus-lite")


@checked("packages")
def packages() -> tuple[str, ...]:
    """Checks the versions of this package's dependencies."""
    wrong = []
    for text in importlib.metadata.requires("fiftyone-milvus") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            wrong.append(f"{needed.name} {version} is not {needed.specifier}")
    if wrong:
        return "problem", "; ".join(wrong), "pip install --upgrade fiftyone-milvus"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _SHOWN]
    return "ok", ", ".join([*versions, f"Python {platform.python_version()}"])


@checked("MongoDB")
def database() -> tuple[str, ...]:
    """Checks that FiftyOne's database answers."""
    from fiftyone_milvus.setup import mongod

    found = mongod.find_mongod()
    if found is None:
        return "problem", "FiftyOne has no database", "run `fiftyone-milvus setup`"
    try:
        # The import connects already
        import fiftyone as fo
        import fiftyone.core.odm as foo

        version = foo.get_db_conn().client.server_info()["version"]
        count = len(fo.list_datasets())
    except Exception as error:
        where = f"FiftyOne's mongod ({found.path})"
        if found.source == "uri":
            where = "FIFTYONE_DATABASE_URI, or database_uri in FiftyOne's config"
        reason = " ".join(str(error).split())[:200]
        return "problem", f"no answer: {reason}", f"check {where}, and that MongoDB runs"
    return "ok", f"version {version}, {count} datasets"


@checked("brain config")
def brain_config() -> tuple[str, ...]:
    """Checks that ``backend="milvus"`` is this package, and that its parameters are known."""
    import fiftyone.brain as fob

    from fiftyone_milvus.backend import parameter_names
    from fiftyone_milvus.setup import takeover

    path = takeover.config_path()
    parameters: dict[str, Any] = fob.brain_config.similarity_backends.get("milvus") or {}
    named = parameters.get("config_cls")
    if named != takeover.CONFIG_CLS:
        exposed = os.environ.get("FIFTYONE_BRAIN_SIMILARITY_BACKENDS")
        why, remedy = named, f"take the other class out of {path} and of the environment"
        if named is None:
            why = f"FIFTYONE_BRAIN_SIMILARITY_BACKENDS is '{exposed}'"
            remedy = "add milvus to FIFTYONE_BRAIN_SIMILARITY_BACKENDS, or unset it"
        return "problem", f'backend="milvus" is not this package: {why}', remedy
    unknown = sorted(set(parameters) - {"config_cls", *parameter_names()})
    if unknown:
        variable = f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{unknown[0].upper()}"
        remedy = f"correct it in {path}, or in the variable {variable}"
        return "problem", f"backend 'milvus' has no parameter '{unknown[0]}'", remedy
    if not takeover.is_enabled():
        return (
            "warning",
            'backend="milvus" is this package only where fiftyone_milvus is imported',
            "run `fiftyone-milvus enable` for every process, the App's included",
        )
    default = fob.brain_config.default_similarity_backend
    found = f'backend="milvus" is this package ({path}); default_similarity_backend is {default}'
    return "ok", found


@checked("plugin")
def plugin() -> tuple[str, ...]:
    """Checks that the App finds the plugin."""
    import fiftyone.plugins as fop

    from fiftyone_milvus.plugin import NAME, installation

    found = installation.status()
    if not (found.installed and found.current):
        # The text contains the remedy
        text, _, remedy = str(found).partition("; ")
        return "warning", text, remedy
    if NAME in fop.list_disabled_plugins():
        return "warning", "it is disabled", f"run `fiftyone plugins enable {NAME}`"
    return "ok", str(found)
