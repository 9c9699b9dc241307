"""Clients that write and search until they are killed: ``python -m tests.faults.chaos_client JOB``.

The process imports FiftyOne once. For each number of a client that it reads, it forks one, and says
its pid; a client that is killed and forked again goes on with its ledgers.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain
import numpy as np

import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)
from fiftyone_milvus.errors import FiftyOneMilvusError
from tests.faults.ledger import DIM, GONE, Ledger, vector
from tests.faults.model import KEY
from tests.support import oracle

THREADS = 2


def ledgers(job: dict[str, Any], client: int) -> list[Ledger]:
    """Those of a client's threads, which share out the rows with all others."""
    total = job["clients"] * THREADS
    mine = range(client * THREADS, (client + 1) * THREADS)
    return [
        Ledger(Path(job["folder"]) / f"{number}.ledger", range(number, job["rows"], total))
        for number in mine
    ]


def work(index: Any, ids: list[str], ledger: Ledger, rng: np.random.Generator) -> None:
    """One thing that a user does, at random."""
    what = rng.choice(["add", "remove", "search"], p=[0.5, 0.15, 0.35])
    if what == "search":
        query = rng.normal(size=DIM).astype(np.float32)
        found = index.search(query, k=5)
        if sorted(found.distances) != list(found.distances):
            ledger.problem(f"distances that are not sorted: {found.distances}")
        known = {ids[row]: row for row in ledger.rows}
        for _id, distance in zip(found.ids, found.distances, strict=True):
            if _id in known:
                versions = ledger.possible[known[_id]] - {GONE}
                true = [
                    oracle.distances(index.config.metric, query, vector(known[_id], each)).item()
                    for each in versions
                ]
                if not any(abs(each - distance) < oracle.tolerance(true) for each in true):
                    ledger.problem(
                        f"row {known[_id]} at {distance}, of versions {versions}: {true}"
                    )
        ledger.searched()
        return
    rows = rng.choice(ledger.rows, size=rng.integers(1, 12), replace=False).tolist()
    version = ledger.ask(rows, delete=what == "remove")
    chosen = [ids[row] for row in rows]
    if what == "remove":
        index.remove_from_index(sample_ids=chosen)
    else:
        index.add_to_index(np.stack([vector(row, version) for row in rows]), chosen)
    ledger.acknowledge()


def use(job: dict[str, Any], client: int) -> None:
    """Works with as many threads, for ever."""
    dataset = fo.load_dataset(job["dataset"])
    index = dataset.load_brain_results(KEY, **job["kwargs"])
    ids = dataset.values("id")

    def run(ledger: Ledger) -> None:
        rng = np.random.default_rng([job["seed"], client, ledger.rows[0], ledger.acknowledged])
        while True:
            try:
                work(index, ids, ledger, rng)
            except FiftyOneMilvusError as error:
                ledger.refuse(str(error))
                if "\n" in str(error):
                    ledger.problem(f"an error of several lines: {error}")
            except BaseException:
                ledger.problem(traceback.format_exc())
            time.sleep(rng.uniform(0, job["pause"]))

    threads = [threading.Thread(target=run, args=(ledger,)) for ledger in ledgers(job, client)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(job: dict[str, Any]) -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            use(job, int(line))
            return
        print(child, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
