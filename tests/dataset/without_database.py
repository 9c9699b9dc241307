"""Calls everything while FiftyOne's database is frozen, and after it has ended. Not a test.

Prints what each call said, as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fiftyone as fo
import psutil

uri, pid, path, folder = sys.argv[1:]
fo.config.database_uri = uri

import fiftyone.brain as fob  # noqa: E402
import numpy as np  # noqa: E402
from fiftyone.operators.executor import ExecutionContext, Executor  # noqa: E402

import fiftyone_milvus  # noqa: E402
from fiftyone_milvus import inventory, moving  # noqa: E402
from fiftyone_milvus.dataset import availability  # noqa: E402
from fiftyone_milvus.inventory import lifecycle  # noqa: E402
from fiftyone_milvus.plugin.operators.manage import DeleteIndex  # noqa: E402
from fiftyone_milvus.plugin.operators.search import Search  # noqa: E402
from fiftyone_milvus.plugin.operators.sync import SyncIndex  # noqa: E402
from fiftyone_milvus.plugin.panel import MilvusPanel  # noqa: E402

availability.WARN_SECONDS, availability._ANSWER_MS = 0.3, 500

dataset = fo.Dataset("away")
dataset.add_samples([fo.Sample(filepath=f"{n}.jpg", number=n) for n in range(20)])
vectors = np.random.default_rng(51).random((20, 8), np.float32)
dataset.set_values("vector", list(vectors))
ids = dataset.values("id")
fob.brain_config.similarity_backends["milvus"]["uri"] = path


def make(key: str, **config: Any) -> Any:
    return fob.compute_similarity(
        dataset, embeddings="vector", brain_key=key, backend="milvus", metric="cosine", **config
    )


one, other = make("one", fields=["number"]), make("other")
file = Path(folder) / "one.parquet"
moving.export_index(dataset, "one", file)
found = one.search(ids[0], k=3)
few = dataset.match(fo.ViewField("number") < 7)


def app(operator: Any, event: str = "execute", **params: Any) -> None:
    """Calls what the App calls; raises what the App shows."""
    executor = Executor()
    params |= {"panel_id": "panel", "panel_state": {"brain_keys": ["one"], "key": "one"}}
    operator.plugin_name = "@fiftyone-milvus/milvus"
    request = {"operator_uri": operator.uri, "params": params, "selected": ids[:1]}
    ctx = ExecutionContext(request, executor=executor, operator_uri=operator.uri)
    ctx._dataset = dataset
    shown = getattr(operator, event)(ctx)
    stream = shown if isinstance(shown, Iterator) else ()
    for call in [*executor._requests, *stream]:
        values = call.body.params if hasattr(call, "body") else call.params
        text = values.get("message") or (values.get("state") or {}).get("problem")
        if text:
            raise RuntimeError(text)


CALLS: dict[str, Callable[[], Any]] = {
    "sync": lambda: one.sync(),
    "sync of a view": lambda: one.sync(few, embeddings=vectors[:7]),
    "sync_fields": lambda: one.sync_fields(),
    "add_to_index": lambda: one.add_to_index(vectors, ids),
    "search": lambda: make_view("one").search(ids[0], k=3),
    "sort_by_similarity": lambda: make_view("other").sort_by_similarity(ids[0], k=3),
    "explain": lambda: one.explain(ids[0], view=few),
    "current_sample_ids": lambda: make_view("one").current_sample_ids,
    "index_size": lambda: make_view("one").index_size,
    "missing_size": lambda: make_view("one").missing_size,
    "find_duplicates": lambda: make_view("one").find_duplicates(thresh=0.1),
    "find_unique": lambda: make_view("one").find_unique(3),
    "cleanup": lambda: one.cleanup(),
    "values": lambda: one.values("number"),
    "view of results": lambda: found.view(dist_field="near"),
    "load": lambda: inventory.indexes(dataset),
    "info": lambda: inventory.index_info(dataset, "one"),
    "collections": lambda: inventory.collections(),
    "clean_up": lambda: inventory.clean_up(one.config.collection_name),
    "datasets": lambda: inventory.datasets(),
    "delete": lambda: lifecycle.delete(dataset, "one"),
    "everywhere": lambda: fiftyone_milvus.search_everywhere(vectors[0]),
    "migrate": lambda: moving.migrate(dataset, "one", "third"),
    "export": lambda: moving.export_index(dataset, "one", file),
    "import": lambda: moving.import_index(file, dataset, "fourth"),
    "revert": lambda: moving.revert(dataset, "other"),
    "adopt": lambda: moving.adopt(dataset, "one"),
    "panel": lambda: app(MilvusPanel(), "on_load"),
    "panel, compare": lambda: app(MilvusPanel(), "compare"),
    "operator": lambda: app(Search(), brain_key="one", dist_field="near"),
    "operator with a progress bar": lambda: app(SyncIndex(), brain_key="one"),
    "form": lambda: app(DeleteIndex(), "resolve_input", brain_key="one"),
    "delete in the App": lambda: app(DeleteIndex(), brain_key="one", confirmed=True),
}


def make_view(key: str) -> Any:
    """Returns an index of its own, in a view."""
    made = one if key == "one" else other
    index = type(made)(dataset, made.config, key, backend=made.backend)
    return index.use_view(few)


def said(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return f"{kind}{error}".removeprefix("RuntimeError: ")
    return "nothing"


warnings: list[str] = []


class Collect(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            warnings.append(record.getMessage())


logging.getLogger("fiftyone_milvus").addHandler(Collect())


def calls() -> dict[str, Any]:
    warnings.clear()
    with ThreadPoolExecutor(len(CALLS)) as pool:
        texts = dict(zip(CALLS, pool.map(said, CALLS.values())))
    return {"errors": texts, "warnings": list(warnings)}


def state() -> Any:
    stored = dataset.list_brain_runs(), dataset.list_indexes(), dataset.count()
    vectors, keys, _ = one.clear_view() or one.get_embeddings()
    return *stored, {key: vector.tolist() for key, vector in zip(keys, vectors)}


before = state()
os.kill(int(pid), signal.SIGSTOP)
threads = [psutil.Process(thread.id) for thread in psutil.Process(int(pid)).threads()]
while any(thread.status() != "stopped" for thread in threads):
    time.sleep(0.01)
frozen = calls()
os.kill(int(pid), signal.SIGCONT)
availability._next = 0.0
assert state() == before, "a call that failed has changed something"
os.kill(int(pid), signal.SIGKILL)
ended = calls()
print(json.dumps({"frozen": frozen, "ended": ended}), flush=True)
os._exit(0)  # FiftyOne would ask its database at the end
