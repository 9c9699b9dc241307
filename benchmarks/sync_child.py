"""One index, synced in a process of its own: ``python -m benchmarks.sync_child TASK``, in JSON."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.child import peak, service_peak
from benchmarks.timing import timed

_WARM = 1_000
_MORE = 1_000
_REPEATS = 2


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Syncs a new index of a whole dataset, and what else the task says.

    Args:
        task: ``dataset``, its name; ``folder``, with its images; ``key``, which brain keys begin
            with; ``dim`` and ``batch_size`` of the model; ``kwargs`` of ``compute_similarity``;
            ``route``:
            ``"sync"``; ``"compute_similarity"`` for FiftyOne's own way; or ``"add_to_index"`` of an
            array, after which come syncs when little or nothing has changed
    """
    import fiftyone as fo
    from tests.support.flight import counted

    from benchmarks.images import Synthetic

    dataset = fo.load_dataset(task["dataset"])
    model = Synthetic(task["dim"])
    build = _ROUTES[task["route"]]
    key = f"{task['key']}_{task['route']}"

    # Once, so that what is loaded at first use is not counted
    build(dataset[:_WARM], f"{key}_warm", model, task).cleanup()
    gc.collect()
    baseline = _reset_peak()
    model.seconds = 0.0
    found: dict[str, Any] = {}
    indexes = []
    with counted() as flight:
        found["seconds"] = timed(lambda: indexes.append(build(dataset, key, model, task)))()
    found["in flight"] = flight.most
    found["peak"] = peak("self") - baseline
    found["model"] = model.seconds
    found["service"] = service_peak(task["kwargs"])
    found["rows"] = indexes[0].total_index_size
    found["samples"] = len(dataset)
    found["vectors"] = 4 * task["dim"] * len(dataset)
    if task["route"] == "add_to_index":
        found["changes"] = _changes(dataset, indexes[0], model, task)
    indexes[0].cleanup()
    return found


def _new(samples: Any, key: str, model: Any, task: dict[str, Any], **kwargs: Any) -> Any:
    import fiftyone.brain as fob

    return fob.compute_similarity(samples, model=model, brain_key=key, **kwargs, **task["kwargs"])


def _sync(samples: Any, key: str, model: Any, task: dict[str, Any]) -> Any:
    index = _new(samples, key, model, task, embeddings=False)
    index.sync(model=model, batch_size=task["batch_size"])
    return index


def _compute_similarity(samples: Any, key: str, model: Any, task: dict[str, Any]) -> Any:
    return _new(samples, key, model, task, batch_size=task["batch_size"])


def _add_to_index(samples: Any, key: str, model: Any, task: dict[str, Any]) -> Any:
    index = _new(samples, key, model, task, embeddings=False)
    ids = samples.values("id")
    index.add_to_index(model.embed_all(ids), ids)
    return index


_ROUTES = {"sync": _sync, "compute_similarity": _compute_similarity, "add_to_index": _add_to_index}


def _changes(dataset: Any, index: Any, model: Any, task: dict[str, Any]) -> dict[str, Any]:
    from pymongo.errors import DocumentTooLarge

    from benchmarks.images import add_images
    from fiftyone_milvus.syncing import expected_rows

    collection = index._collection
    documents = dataset._sample_collection
    contenders: dict[str, Callable[[], object]] = {
        "sync() of an index that is up to date": lambda: index.sync(model=model),
        "of it: the dataset's IDs": lambda: expected_rows.read(dataset, None),
        "of it: the index's IDs": lambda: _exhaust(collection.id_pages(strong=True)),
        "dataset.values('id')": lambda: dataset.values("id"),
        "bare pymongo, _id of all": lambda: _exhaust(documents.find({}, {"_id": True})),
    }
    found: dict[str, Any] = {name: [] for name in contenders}
    baseline = _reset_peak()
    index.sync(model=model)
    found["peak"] = peak("self") - baseline
    for _ in range(_REPEATS):
        for name, work in contenders.items():
            found[name].append(timed(work)())

    def add() -> list[str]:
        return add_images(dataset, _MORE, Path(task["folder"]))

    def fiftyones_way() -> None:
        vectors, sample_ids, _ = index.compute_embeddings(
            dataset, model=model, batch_size=task["batch_size"], skip_existing=True
        )
        index.add_to_index(vectors, sample_ids)

    ways: dict[str, Callable[[list[str]], object]] = {
        "sync()": lambda ids: index.sync(model=model, batch_size=task["batch_size"]),
        "sync(view, prune=False)": lambda ids: index.sync(
            dataset.select(ids), model=model, batch_size=task["batch_size"], prune=False
        ),
        "compute_embeddings(skip_existing=True), add_to_index()": lambda ids: fiftyones_way(),
    }
    added: dict[str, Any] = {}
    for _ in range(_REPEATS):
        for name, way in ways.items():
            ids = add()
            try:
                added.setdefault(name, []).append(timed(lambda way=way, ids=ids: way(ids))())
            except DocumentTooLarge:
                # FiftyOne leaves out what an index has by its IDs, in one request to MongoDB
                index.sync(dataset.select(ids), model=model, prune=False)
            if index.total_index_size != len(dataset):
                raise RuntimeError(f"{name} left {index.total_index_size} of {len(dataset)}")
    return {**found, "added": added}


def _exhaust(rows: Iterable[object]) -> None:
    for _ in rows:
        pass


def _reset_peak() -> int:
    """Makes the peak of memory what this process has now, and returns it, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak("self")


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
