"""One backend in a process of its own: ``python -m benchmarks.child TASK``, a JSON object."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


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
    if task["kwargs"]["backend"] == "lancedb":  # takes one query at a time
        for query in queries:
            index._kneighbors(query=query, k=task["k"])
    else:
        index._kneighbors(query=queries, k=task["k"])
    seconds = time.perf_counter() - start
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"build": build, "queries": seconds, "peak": peak, "service": _service(task)}
    index.cleanup()
    return found


def _service(task: dict[str, Any]) -> int:
    """Returns the peak memory of the embedded engine's process, in bytes; 0 if there is none."""
    from fiftyone_milvus import embedded

    uri = str(task["kwargs"].get("uri", ""))
    ours = task["kwargs"]["backend"] == "milvus" and "config_cls" not in task["kwargs"]
    status = embedded.status(Path(uri)) if ours and uri.endswith(".db") else None
    if status is None:
        return 0
    for line in Path(f"/proc/{status.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
