"""One backend in a process of its own: ``python -m benchmarks.child TASK``, a JSON object."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_ONE_BY_ONE = 50


def main(task: dict[str, Any]) -> dict[str, Any]:
    import fiftyone as fo
    import fiftyone.brain as fob

    import fiftyone_milvus  # noqa: F401  (takes over backend="milvus")
    from benchmarks.vectors import near

    dataset = fo.load_dataset(task["dataset"])
    vectors = np.load(task["vectors"], mmap_mode="r")
    queries = near(vectors, task["queries"])
    vectors = np.array(vectors)
    dataset.first()

    start = time.perf_counter()
    index = fob.compute_similarity(
        dataset, embeddings=vectors, brain_key=task["key"], **task["kwargs"]
    )
    index._kneighbors(query=queries[0], k=task["k"])
    build = time.perf_counter() - start
    start = time.perf_counter()
    if task["kwargs"]["backend"] == "lancedb":  # takes one query at a time, of which a few will do
        for query in queries[:_ONE_BY_ONE]:
            index._kneighbors(query=query, k=task["k"])
        seconds = (time.perf_counter() - start) * len(queries) / _ONE_BY_ONE
    else:
        index._kneighbors(query=queries, k=task["k"])
        seconds = time.perf_counter() - start
    found = {
        "build": build,
        "queries": seconds,
        "peak": peak("self"),
        "service": service_peak(task["kwargs"]),
    }
    index.cleanup()
    return found


def service_peak(kwargs: dict[str, Any]) -> int:
    """Returns the peak memory of the embedded engine's process, in bytes; 0 if there is none."""
    from fiftyone_milvus import embedded

    uri = str(kwargs.get("uri", ""))
    ours = kwargs["backend"] == "milvus" and "config_cls" not in kwargs
    status = embedded.status(Path(uri)) if ours and uri.endswith(".db") else None
    return 0 if status is None else peak(status.pid)


def peak(process: int | str) -> int:
    """Returns a process' peak of resident memory; getrusage() has that of who started it too."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
