"""Brain runs of FiftyOne's built-in ``milvus`` backend, and those that were adopted from it."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

import eta.core.utils as etau
from fiftyone.brain.config import BrainConfig

from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig
from fiftyone_milvus.connection import CREDENTIALS
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.errors import (
    EmbeddedServiceError,
    EngineError,
    InvalidInputError,
    incompatible,
)
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import config_of, open_index
from fiftyone_milvus.moving import runs
from fiftyone_milvus.setup.takeover import BUILTIN_CLS

_PACKAGE = "fiftyone.brain."


@needs_database
def adoptable(dataset: Any) -> list[str]:
    """Returns the brain keys of the runs of FiftyOne's built-in ``milvus`` backend.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
    """
    return [key for key in dataset.list_brain_runs() if is_builtin(runs.document(dataset, key))]


def is_builtin(document: Any) -> bool:
    """Whether a run, given by its document, is of the built-in backend."""
    config = document.config
    return config.get("method") == "milvus" and str(config.get("cls")).startswith(_PACKAGE)


def config_class() -> Any:
    """Returns the config class of the built-in backend, wherever this FiftyOne has it."""
    builtins: Mapping[str, Any] = getattr(BrainConfig, "_BUILTIN_SIMILARITY_BACKENDS", {})
    return etau.get_class(builtins.get("milvus", {}).get("config_cls", BUILTIN_CLS))


def as_ours(
    dataset: Any, key: str, credentials: Mapping[str, Any]
) -> tuple[MilvusSimilarityIndex, tuple[str, ...]]:
    """Returns an index of this package for the collection of a built-in run; changes no record.

    Closes a Milvus Lite directory that the built-in backend has open in this process; see
    :func:`fiftyone_milvus.moving.lite_directory.used_exclusively`.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the run
        credentials: the address of the collection; by default that of the loaded run, else that of
            FiftyOne's brain config

    Returns:
        the index, and the names of recorded parameters that this package does not have

    Raises:
        InvalidInputError: if the run or a credential can't be used
    """
    document = runs.document(dataset, key)
    parameters = {n: v for n, v in document.config.items() if n not in ("cls", "type", "method")}
    known = recorded(MilvusSimilarityConfig)
    config = MilvusSimilarityConfig(**{n: v for n, v in parameters.items() if n in known})
    if config.collection_name is None:
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' records no collection, as its creation "
            "failed; delete it with dataset.delete_brain_run()"
        )
    found, loaded = given(credentials), runs.cached(dataset, key)
    if not found and loaded is not None:
        found = {name: getattr(loaded.config, name, None) for name in CREDENTIALS}
    config.load_credentials(**found)
    if config.uri is None:
        # Like the built-in backend, which leaves the address to pymilvus
        config.deployment = "server"
    path = config.connect().target.path
    if path is not None:
        close_directory(str(config.uri), str(path))
    samples = runs.samples(dataset, key)
    index = MilvusSimilarityIndex(samples, config, key, backend=MilvusSimilarity(config))
    return index, tuple(sorted(set(parameters) - known))


def open_run(dataset: Any, key: str, credentials: Mapping[str, Any]) -> MilvusSimilarityIndex:
    """Returns the index of a run of this package; connects to nothing.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the run
        credentials: the address; by default that of the run as it is loaded in this process, else
            that of FiftyOne's brain config

    Raises:
        InvalidInputError: if there is no such run of this package, or a credential is unknown
    """
    found = given(credentials)
    config = config_of(dataset, key) if found else None
    if config is None:
        return open_index(dataset, key)
    config.load_credentials(**found)
    samples = runs.samples(dataset, key)
    return MilvusSimilarityIndex(samples, config, key, backend=MilvusSimilarity(config))


def given(credentials: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the credentials of a call that are not None.

    Raises:
        InvalidInputError: if a name is unknown
    """
    unknown = sorted(set(credentials) - set(CREDENTIALS))
    if unknown:
        raise InvalidInputError(
            f"Unknown parameter '{unknown[0]}'; the parameters are {', '.join(CREDENTIALS)}"
        )
    return {name: value for name, value in credentials.items() if value is not None}


def close_directory(*names: str) -> None:
    """Closes a Milvus Lite directory that pymilvus has opened in this process.

    Args:
        *names: the paths by which it may have been opened
    """
    manager = _server_manager()
    if manager is not None:
        for name in dict.fromkeys(names):
            manager.release_server(name)


def open_directory(index: Any) -> str | None:
    """Returns the Milvus Lite directory that a loaded run of the built-in has open, or None.

    Args:
        index: the results of any run, or None
    """
    uri = getattr(getattr(index, "config", None), "uri", None)
    if not isinstance(uri, str) or not type(index).__module__.startswith(_PACKAGE):
        return None
    if (manager := _server_manager()) is None:
        return None
    path = os.path.abspath(uri)
    return path if path in manager._servers else None


def _server_manager() -> Any:
    """Returns what pymilvus opens Milvus Lite directories with, or None if it has opened none.

    Raises:
        EngineError: if this Milvus Lite does not tell which are open
    """
    module = sys.modules.get("milvus_lite.server_manager")
    if module is None:
        return None
    manager = getattr(module, "server_manager_instance", None)
    if not (hasattr(manager, "_servers") and hasattr(manager, "release_server")):
        raise EngineError(incompatible("milvus-lite", "no list of the directories that are open"))
    return manager


def explain_lock(error: EmbeddedServiceError) -> EmbeddedServiceError:
    """Returns the error for a Milvus Lite directory that another process has open."""
    if "data directory is locked by" not in str(error):
        return error
    return EmbeddedServiceError(
        f"{str(error).split(';')[0]}; the built-in backend keeps it until its process ends: close "
        "the other Python sessions and Apps that have loaded the run, then try again"
    )


def recorded(cls: Any) -> set[str]:
    """Returns the names of the parameters that a config class records."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            names.update(inspect.signature(base.__init__).parameters)
    return names - {"self", "kwargs", *CREDENTIALS}
