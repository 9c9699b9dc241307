"""Completes what is typed, without an import of FiftyOne, for which no shell waits.

`fiftyone-milvus --install-completion` sets it up. If FiftyOne's database does not run, it has no
names to offer.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from fiftyone_milvus import fiftyone_config

_SECONDS = 1.0
_METRICS = ("cosine", "dotproduct", "euclidean")


def datasets(incomplete: str) -> list[str]:
    """Returns the names of datasets that start like this."""
    return _starting(incomplete, _in_database(lambda db: db.datasets.distinct("name")))


def brain_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the brain keys of this package's indexes of the dataset that was typed before."""
    name = ctx.params.get("dataset")

    def read(db: Any) -> list[str]:
        dataset = db.datasets.find_one({"name": name}, {"brain_methods": 1}) or {}
        query = {"_dataset_id": dataset.get("_id"), "config.cls": {"$regex": r"^fiftyone_milvus\."}}
        stored = db.runs.distinct("key", query)
        return [key for key in stored if key in (dataset.get("brain_methods") or {})]

    return _starting(incomplete, _in_database(read))


def models(incomplete: str) -> list[str]:
    """Returns the names of models of FiftyOne's zoo, and of the user's, that start like this."""
    files = []
    if (found := importlib.util.find_spec("fiftyone")) and found.origin:
        files = list((Path(found.origin).parent / "zoo" / "models").glob("manifest-*.json"))
    default = Path(fiftyone_config.setting("default_dataset_dir", Path.home() / "fiftyone"))
    zoo = Path(fiftyone_config.setting("model_zoo_dir", default / "__models__"))
    names: set[str] = set()
    for file in (*files, *zoo.expanduser().glob("*/manifest.json")):
        with suppress(OSError, ValueError, AttributeError, TypeError):
            entries = json.loads(file.read_text(encoding="utf-8")).get("models") or ()
            names.update(str(e["base_name"]) for e in entries if e.get("base_name"))
    return _starting(incomplete, names)


def metrics(incomplete: str) -> list[str]:
    """Returns the metrics that start like this."""
    return _starting(incomplete, _METRICS)


def _in_database(read: Callable[[Any], Iterable[str]]) -> Iterable[str]:
    """Returns what is read of FiftyOne's database, or nothing if it does not answer soon."""
    if (uri := _uri()) is None:
        return ()
    import pymongo
    from pymongo.errors import PyMongoError

    milliseconds = round(_SECONDS * 1000)
    with (
        suppress(PyMongoError),
        pymongo.MongoClient(
            uri, serverSelectionTimeoutMS=milliseconds, socketTimeoutMS=milliseconds
        ) as client,
    ):
        return list(read(client[fiftyone_config.setting("database_name", "fiftyone")]))
    return ()


def _uri() -> str | None:
    """Returns the address of FiftyOne's database, if it runs."""
    if uri := fiftyone_config.setting("database_uri"):
        return str(uri)
    import psutil

    folder = str(fiftyone_config.database_dir())
    for process in psutil.process_iter(["name", "cmdline"]):
        if not (process.info["name"] or "").startswith("mongod"):
            continue
        with suppress(psutil.Error, ValueError, IndexError):
            line = process.info["cmdline"] or []
            if line[line.index("--dbpath") + 1] == folder:
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        return f"mongodb://127.0.0.1:{connection.laddr.port}"
    return None


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
