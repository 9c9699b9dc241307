"""The brain runs of all datasets that name a collection of Milvus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone.core.odm as foo

_GENERATED = ("ToFrames", "ToClips", "ToTrajectories")


@dataclass(frozen=True)
class User:
    """A stored brain run that names a collection.

    Attributes:
        dataset: the name of its dataset
        dataset_id: the ID of that
        brain_key: of the run
        patches_field: the field of the patches that it holds, or None for samples
        of_samples: see :func:`is_of_samples`
    """

    dataset: str
    dataset_id: str
    brain_key: str
    patches_field: str | None = None
    of_samples: bool = True

    def __str__(self) -> str:
        return f"'{self.brain_key}' of dataset '{self.dataset}'"


def users(names: Iterable[str], deployment: str | None = None) -> list[User]:
    """Returns the runs that name a collection, by dataset and brain key.

    Runs do not record the address of their Milvus. So collections of the same name on two servers
    count as one.

    Args:
        names: the collection's name, and its aliases
        deployment (None): ``"embedded"`` or ``"server"``; None for both

    Returns:
        the runs of any ``milvus`` backend in this FiftyOne database; a run that records no
        deployment counts for both
    """
    query = {"config.method": "milvus", "config.collection_name": {"$in": list(names)}}
    if deployment is not None:
        query["config.deployment"] = {"$in": [deployment, None]}
    return [
        User(
            dataset,
            str(run["_dataset_id"]),
            run["key"],
            run["config"].get("patches_field"),
            is_of_samples(run.get("view_stages")),
        )
        for dataset, run in live_runs(query, "config.patches_field")
    ]


def live_runs(query: Mapping[str, Any], config: str) -> list[tuple[str, Any]]:
    """Returns the documents of brain runs that their datasets still have.

    The document of an overwritten or deleted run may still exist.

    Args:
        query: MongoDB's query for the runs
        config: what is read of their configs, such as ``"config.patches_field"``

    Returns:
        the name of the dataset and the document of each run, by dataset and brain key
    """
    database = foo.get_db_conn()
    fields = {"key": 1, "_dataset_id": 1, "view_stages": 1, config: 1}
    runs = list(database.runs.find(query, fields))
    ids = [run.get("_dataset_id") for run in runs]
    found = database.datasets.find({"_id": {"$in": ids}}, {"name": 1, "brain_methods": 1})
    datasets = {document["_id"]: document for document in found}
    live = []
    for run in runs:
        document = datasets.get(run.get("_dataset_id"))
        if document is not None and run.get("key") in (document.get("brain_methods") or ()):
            live.append((document["name"], run))
    return sorted(live, key=lambda one: (one[0], one[1]["key"]))


def is_of_samples(view_stages: Iterable[str] | None) -> bool:
    """Returns whether a run is of a dataset's own samples or patches, not of frames or clips.

    Frames and clips are samples of another dataset, which FiftyOne would have to generate first.

    Args:
        view_stages: of the run's document
    """
    stages = view_stages or ()
    return not any(f'stages.{name}"' in stage for stage in stages for name in _GENERATED)
