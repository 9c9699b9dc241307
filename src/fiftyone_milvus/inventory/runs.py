"""The stored runs of Milvus indexes of all datasets, read without loading the indexes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import fiftyone.core.odm as foo

from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.users import is_of_samples, live_runs
from fiftyone_milvus.errors import InvalidInputError

NO_MODEL = "none"
"""Stands for the model of an index that was made from embeddings."""

_OURS = r"^fiftyone_milvus\."
_BUILT_IN = r"^fiftyone\.brain\."


@dataclass(frozen=True)
class Run:
    """A stored Milvus index.

    Attributes:
        dataset: the name of its dataset
        brain_key: of the run
        collection: the name of the Milvus collection
        metric: FiftyOne's name of the metric
        model: the name of the zoo model, or :data:`NO_MODEL`
        prompts: whether the model takes text
        of_samples: see :func:`fiftyone_milvus.dataset.users.is_of_samples`
    """

    dataset: str
    brain_key: str
    collection: str
    metric: str
    model: str
    prompts: bool
    of_samples: bool


@needs_database
def datasets() -> list[str]:
    """Returns the names of the datasets that have an index of this package, sorted."""
    return sorted({run.dataset for run in read()})


@needs_database
def built_in_runs() -> list[Run]:
    """Returns the runs of FiftyOne's built-in ``milvus`` backend, by dataset and brain key."""
    return read(cls=_BUILT_IN)


def read(datasets: str | Iterable[str] | None = None, *, cls: str = _OURS) -> list[Run]:
    """Returns the runs of all datasets, by dataset and brain key.

    Args:
        datasets (None): the name or names of datasets; by default, of all
        cls: a regular expression for the class of the runs' configs

    Raises:
        InvalidInputError: if a dataset does not exist
    """
    query: dict[str, Any] = {
        "config.method": "milvus",
        "config.cls": {"$regex": cls},
        "config.collection_name": {"$type": "string"},
    }
    if datasets is not None:
        several = isinstance(datasets, Iterable) and not isinstance(datasets, str)
        names: list[Any] = list(datasets) if several else [datasets]
        if not names or not all(isinstance(name, str) for name in names):
            raise InvalidInputError(f"Invalid datasets {datasets!r}; expected names of datasets")
        found = foo.get_db_conn().datasets.find({"name": {"$in": names}}, {"name": 1})
        there = {document["name"]: document["_id"] for document in found}
        if missing := set(names) - set(there):
            raise InvalidInputError(
                f"There is no dataset '{min(missing)}'; see fiftyone.list_datasets()"
            )
        query["_dataset_id"] = {"$in": list(there.values())}
    return [_run(*found) for found in live_runs(query, "config")]


def _run(dataset: str, document: Any) -> Run:
    config = document["config"]
    model = config.get("model")
    return Run(
        dataset=dataset,
        brain_key=document["key"],
        collection=config["collection_name"],
        metric=config.get("metric", "dotproduct"),
        model=model if isinstance(model, str) else NO_MODEL,
        prompts=bool(config.get("supports_prompts")),
        of_samples=is_of_samples(document.get("view_stages")),
    )
