"""The similarity runs of a whole FiftyOne database, as recorded: no dataset is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import fiftyone.core.odm as foo

BUILT_IN = "fiftyone.brain.internal.core.milvus."
"""Where FiftyOne's built-in backend is."""


@dataclass(frozen=True, order=True)
class Run:
    """A brain run.

    Attributes:
        dataset: the name of its dataset
        brain_key: of the run
    """

    dataset: str
    brain_key: str


def datasets() -> list[str]:
    """Returns the names of the datasets that have an index of this package, sorted."""
    return sorted({run.dataset for run in _runs(built_in=False)})


def built_in_runs() -> list[Run]:
    """Returns the runs of FiftyOne's built-in ``milvus`` backend, by dataset and brain key."""
    return sorted(_runs(built_in=True))


def _runs(*, built_in: bool) -> list[Run]:
    database = foo.get_db_conn()
    where: dict[str, object] = {"config.method": "milvus"}
    ours = {"$regex": "^" + BUILT_IN.replace(".", r"\.")}
    where["config.cls"] = ours if built_in else {"$not": ours}
    names = {d["_id"]: d["name"] for d in database.datasets.find({}, {"name": 1})}
    return [
        Run(names[run["_dataset_id"]], str(run["key"]))
        for run in database.runs.find(where, {"key": 1, "_dataset_id": 1})
        if run.get("_dataset_id") in names
    ]
