"""Runs of FiftyOne's built-in ``milvus`` backend."""

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
from fiftyone_milvus.errors import (
    EmbeddedServiceError,
    EngineError,
    InvalidInputError,
    incompatible,
)
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.moving import runs
from fiftyone_milvus.setup.takeover import BUILTIN_CLS

_PACKAGE = "fiftyone.brain."


def adoptable(dataset: Any) -> list[str]:
    """Returns the brain keys of runs that FiftyOne's built-in ``milvus`` backend made.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
    """
    return [key for key in dataset.list_brain_runs() if is_builtin(runs.document(dataset, key))]


def is_builtin(document: Any) -> bool:
    """Whether the document of a run is of the built-in backend."""
    config = document.config
    return config.get("method") == "milvus" and str(config.get("cls")).startswith(_PACKAGE)


def config_class() -> Any:
    """Returns the built-in's config class, wherever this FiftyOne has it."""
    builtins: Mapping[str, Any] = getattr(BrainConfig, "_BUILTIN_SIMILARITY_BACKENDS", {})
    return etau.get_class(builtins.get("milvus", {}).get("config_cls", BUILTIN_CLS))


def parameters() -> set[str]:
    """Returns the names of what the built-in's config records."""
    return _recorded(config_class())


def as_ours(
    dataset: Any, key: str, credentials: Mapping[str, Any]
) -> tuple[MilvusSimilarityIndex, tuple[str, ...]]:
    """Returns an index of ours on the collection of a built-in's run; changes nothing recorded.

    A Milvus Lite directory that the built-in holds in this process is let go of; see
    :func:`fiftyone_milvus.moving.lite_directory.borrowed`.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: of the run
        credentials: where it is; what is not given is taken from the loaded run, then from
            FiftyOne's brain config

    Returns:
        the index, and the names of what the run records that this package has no use for

    Raises:
        InvalidInputError: if the run or a credential can't be used
    """
    document = runs.document(dataset, key)
    recorded = {n: v for n, v in document.config.items() if n not in ("cls", "type", "method")}
    known = _recorded(MilvusSimilarityConfig)
    config = MilvusSimilarityConfig(**{n: v for n, v in recorded.items() if n in known})
    if config.collection_name is None:
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' records no collection: it failed while "
            "it was made; delete it with dataset.delete_brain_run()"
        )
    set_credentials(config, credentials, runs.cached(dataset, key))
    if config.uri is None:
        # Where pymilvus looks, and the built-in with it
        config.deployment = "server"
    path = config.connect().target.path
    if path is not None:
        let_go(str(config.uri), str(path))
    samples = runs.samples(dataset, key)
    index = MilvusSimilarityIndex(samples, config, key, backend=MilvusSimilarity(config))
    return index, tuple(sorted(set(recorded) - known))


def set_credentials(
    config: MilvusSimilarityConfig, credentials: Mapping[str, Any], loaded: Any = None
) -> None:
    """Gives a config the credentials of a call, else of a loaded run, else of the brain config.

    Args:
        config: the config
        credentials: those of the call
        loaded: the run as it is loaded in this process, or None

    Raises:
        InvalidInputError: if one has another name
    """
    found = given(credentials)
    if not found and loaded is not None:
        found = {name: getattr(loaded.config, name, None) for name in CREDENTIALS}
    config.load_credentials(**found)


def given(credentials: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the credentials that a call gives.

    Raises:
        InvalidInputError: if one has another name
    """
    unknown = sorted(set(credentials) - set(CREDENTIALS))
    if unknown:
        raise InvalidInputError(
            f"Unknown parameter '{unknown[0]}'; the parameters are {', '.join(CREDENTIALS)}"
        )
    return {name: value for name, value in credentials.items() if value is not None}


def let_go(*names: str) -> None:
    """Closes a Milvus Lite directory that pymilvus has opened in this process.

    Args:
        *names: of the directory, as it may have been given
    """
    manager = _server_manager()
    if manager is not None:
        for name in dict.fromkeys(names):
            manager.release_server(name)


def held(index: Any) -> str | None:
    """Returns the Milvus Lite directory that a loaded index of the built-in has open, or None.

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
    """Returns what to say where another process holds a Milvus Lite directory."""
    if "locked by another process" not in str(error):
        return error
    return EmbeddedServiceError(
        f"{str(error).split(';')[0]}; the built-in backend keeps it until its process ends: close "
        "the other Python sessions and Apps that have loaded the run, then try again"
    )


def _recorded(cls: Any) -> set[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            names.update(inspect.signature(base.__init__).parameters)
    return names - {"self", "kwargs", *CREDENTIALS}
