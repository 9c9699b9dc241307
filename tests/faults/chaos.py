"""Clients that write and search while they, and what they talk to, are killed and frozen.

What was acknowledged is compared at the end with what is there; see :mod:`tests.faults.ledger`.
``CHAOS_SECONDS`` says how long, ``CHAOS_SEED`` which faults come in which order; when each hits is
the machine's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.chaos_client import THREADS, ledgers
from tests.faults.ledger import DIM, GONE, Ledger, vector
from tests.faults.support import World
from tests.support import oracle

SECONDS = float(os.environ.get("CHAOS_SECONDS", 8))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 30)))

CLIENTS = 4
ROWS = 240
_ROOT = Path(__file__).parents[2]

Fault = Callable[["Chaos"], None]
"""Does harm, and ends it."""


class Chaos:
    """Runs clients and faults; use as a context, then :meth:`run` and :meth:`check`.

    Args:
        world: an empty index of a dataset of :data:`ROWS` samples and one more
        seed: of what the clients do, and of the order of the faults
        pids: the processes of the engine
        pause: up to so many seconds between what a thread does
    """

    def __init__(
        self, world: World, seed: int, pids: Callable[[], list[int]], pause: float = 0.25
    ) -> None:
        # pytest shows it where the test fails
        print(f"CHAOS_SEED={seed}", flush=True)
        self.world, self.pids, self.rng = world, pids, np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()
        self._folder = tempfile.TemporaryDirectory()
        self._job: dict[str, Any] = {
            "dataset": world.dataset.name,
            "kwargs": world.kwargs,
            "folder": self._folder.name,
            "clients": CLIENTS,
            "rows": ROWS,
            "seed": seed,
            "pause": pause,
        }
        *self._ids, self._own = world.dataset.values("id")
        world.index.add_to_index(np.stack([vector(row, 0) for row in range(ROWS)]), self._ids)
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.chaos_client", json.dumps(self._job)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.clients = [self._start(number) for number in range(CLIENTS)]

    def __enter__(self) -> Chaos:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids():
            send(pid, signal.SIGCONT)
        self._end_clients()
        self._folder.cleanup()

    def run(self, seconds: float, faults: Sequence[Fault]) -> None:
        """Does one harm after another for some seconds, then lets all clients do more."""
        self._all_go_on()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            fault = faults[self.rng.integers(len(faults))]
            self.counts[fault.__name__] += 1
            fault(self)
            self._some_go_on()
            time.sleep(self.rng.uniform(0, 0.5))
        self._all_go_on()

    def kill_client(self) -> None:
        number = int(self.rng.integers(CLIENTS))
        send(self.clients[number], signal.SIGKILL)
        self.clients[number] = self._start(number)

    def freeze_client(self) -> None:
        pid = self.clients[self.rng.integers(CLIENTS)]
        send(pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.2, 1.5))
        send(pid, signal.SIGCONT)

    def kill_engine(self) -> None:
        for pid in self.pids():
            send(pid, signal.SIGKILL)

    def freeze_engine(self) -> None:
        pids = self.pids()
        for pid in pids:
            send(pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.2, 1.5))
        for pid in pids:
            send(pid, signal.SIGCONT)

    def kill_both(self) -> None:
        self.kill_engine()
        self.kill_client()

    def ledgers(self) -> list[Ledger]:
        """Those of all clients, as they are now."""
        return [ledger for number in range(CLIENTS) for ledger in ledgers(self._job, number)]

    def check(self) -> None:
        """Compares what was acknowledged with count, get and searches."""
        self._end_clients()
        found = self.ledgers()
        problems = [problem for ledger in found for problem in ledger.problems]
        assert not problems, problems[0]
        self.counts["acknowledged"] = sum(ledger.acknowledged for ledger in found)
        self.counts["searches"] = sum(ledger.searches for ledger in found)
        refused = Counter(reason for ledger in found for reason in ledger.refused)
        print(dict(self.counts), "refused:", dict(refused), flush=True)

        index = self.world.index
        # What this process reads after a delete of its own is no older than that
        index.add_to_index(vector(ROWS, 0)[np.newaxis], [self._own])
        index.remove_from_index(sample_ids=[self._own])
        vectors, ids, _ = index.get_embeddings()
        held = dict(zip(ids, vectors, strict=True))
        assert len(held) == len(ids) == index.total_index_size
        assert held.keys() <= set(self._ids)
        for ledger in found:
            for row, versions in ledger.possible.items():
                there = held.get(self._ids[row])
                if there is None:
                    assert GONE in versions, f"row {row} is lost; it may be {versions}"
                else:
                    right = any(np.array_equal(there, vector(row, v)) for v in versions - {GONE})
                    assert right, f"row {row} is not as acknowledged, {versions}"
        some = self.rng.choice(sorted(held), size=20, replace=False).tolist()
        got, got_ids, _ = index.get_embeddings(sample_ids=some)
        assert sorted(got_ids) == sorted(some)
        for _id, one in zip(got_ids, got, strict=True):
            np.testing.assert_array_equal(one, held[_id])
        for query in self.rng.normal(size=(5, DIM)).astype(np.float32):
            answer = index.search(query, k=10)
            true = oracle.distances(index.config.metric, query, np.stack(list(held.values())))[0]
            oracle.check_ranking(
                answer.ids, dict(zip(held, true, strict=True)), 10, reported=answer.distances
            )

    def _start(self, number: int) -> int:
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        print(number, file=self._forks.stdin, flush=True)
        return int(self._forks.stdout.readline())

    def _end_clients(self) -> None:
        if self._forks.poll() is not None:
            return
        # All are its children, and of its session
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._forks.pid, signal.SIGKILL)
        self._forks.communicate()

    def _some_go_on(self) -> None:
        """Waits for a few acknowledgements, but not for long: faults may come one on another."""
        enough, until = sum(self._acknowledged()) + 5, time.monotonic() + self.rng.uniform(0.2, 5)
        while sum(self._acknowledged()) < enough and time.monotonic() < until:
            time.sleep(0.05)

    def _all_go_on(self) -> None:
        """Waits until each thread of each client has something acknowledged."""
        before = self._acknowledged()
        until = time.monotonic() + 120
        while not all(now > then for now, then in zip(self._acknowledged(), before, strict=True)):
            assert time.monotonic() < until, "a client does nothing any more"
            time.sleep(0.2)

    def _acknowledged(self) -> list[int]:
        files = [Path(self._folder.name) / f"{i}.ledger" for i in range(CLIENTS * THREADS)]
        return [f.read_text("utf-8").count('"acknowledged"') if f.exists() else 0 for f in files]


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


ON_ANY_ENGINE: list[Fault] = [Chaos.kill_client, Chaos.freeze_client, Chaos.freeze_engine]
"""What a server takes too: to start again takes it too long."""
ON_EMBEDDED: list[Fault] = [*ON_ANY_ENGINE, Chaos.kill_engine, Chaos.kill_both]
