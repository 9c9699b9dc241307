"""Workers that are actors of a Ray cluster.

Only this process writes to Milvus. An actor gets a model and, for whole images, IDs and paths; it
knows nothing of Milvus, and of FiftyOne's database only where a model needs more than pixels.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fiftyone as fo

from fiftyone_milvus._version import __version__
from fiftyone_milvus.errors import InvalidInputError, WorkerError, shown
from fiftyone_milvus.syncing import images, ray_actor
from fiftyone_milvus.syncing.embedding_errors import reason
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.pool import Lost, Pool, Worker
from fiftyone_milvus.syncing.sources import Found, Source
from fiftyone_milvus.syncing.worker import Job

logger = logging.getLogger(__name__)

_SAY_SECONDS = 10.0
_START_SECONDS = 600.0
"""How long Ray may have no room for any worker. A cluster that grows by itself takes minutes."""

_LOOK_SECONDS = 60.0
_POLL_SECONDS = 0.5
_SETTINGS = ("default_batch_size", "model_zoo_dir")
_DATABASE = ("database_name", "database_validation")
_ADDRESS = re.compile(r"auto|[^\s:/]+:\d+|\[[^\s/]+\]:\d+")


def check_address(value: Any) -> str:
    """Returns the address of a cluster that a caller passes.

    Raises:
        InvalidInputError: if it is none, or Ray is not installed
    """
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise InvalidInputError(
            f"Invalid ray {shown(value)}; expected 'auto', or HOST:PORT of the cluster that this "
            "machine is a node of"
        )
    _ray()
    return value


def _ray() -> Any:
    try:
        import ray
        import ray.cloudpickle
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError:
        raise InvalidInputError(
            "Ray is not installed; run pip install 'fiftyone-milvus[ray]' here and on each node"
        ) from None
    return ray


class RayPool(Pool):
    """Actors of a Ray cluster.

    Args:
        job: what they embed; how many processors each has follows from the cluster
        address: ``"auto"``, or ``HOST:PORT`` of the cluster
        count: how many there are to be; None for as many as the cluster has room for
        gpus: how many GPUs each needs, which may be a part of one
        writes_to: the engine, for messages
    """

    def __init__(
        self, job: Job, address: str, count: int | None, gpus: float, writes_to: str
    ) -> None:
        self.gpus = gpus
        self.running: set[Worker] = set()
        self.ray = _ray()
        self._job, self._address, self._writes_to = job, address, writes_to
        self._lock = threading.Lock()
        self._own = self._said = False
        self._paths: list[str] = []
        self._seen: set[str] = set()
        self._join()
        try:
            nodes = self._nodes()
            room = sum(map(self._room, nodes))
            if count is None and not room:
                raise InvalidInputError(
                    f"No node of Ray has {self._needs}; pass workers=N to wait for one that has"
                )
            self.count = count or room
            processors = sum(int(node["Resources"].get("CPU", 0)) for node in nodes)
            self._job = replace(job, processors=max(1, processors // self.count))
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        ray, address = self.ray, self._address
        if ray.is_initialized():
            current = ray.get_runtime_context().gcs_address
            if address not in ("auto", current):
                raise InvalidInputError(
                    f"This process is a driver of Ray at {current}, not at {address}; pass "
                    "ray='auto', or call ray.shutdown() first"
                )
            return
        if address == "auto":
            address = check_address(os.environ.get("RAY_ADDRESS") or address)
        try:
            if address != "auto":
                # Ray itself would try for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            with _own_handler():
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, RuntimeError, ValueError) as error:
            raise WorkerError(
                f"No Ray cluster answers at '{address}' ({reason(error)}); start one with "
                "`ray start --head`, and `ray start --address=HOST:PORT` on each other machine"
            ) from None
        self._own = True

    def close(self) -> None:
        """Leaves the cluster, if this joined it."""
        if self._own:
            self._own = False
            with _own_handler():
                self.ray.shutdown()

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _room(self, node: dict[str, Any]) -> int:
        """Returns how many workers a node has room for, if it does nothing else."""
        room: float = node["Resources"].get("CPU", 0)
        if self.gpus:
            room = min(room, node["Resources"].get("GPU", 0) / self.gpus + 1e-9)
        return int(room)

    @property
    def _needs(self) -> str:
        return "a free processor" + (f" and {self.gpus:g} free GPUs" if self.gpus else "")

    # -- what the nodes can read --------------------------------------------------------------

    def open(self, source: Source, examples: Expected) -> None:
        """Has each node try whether it can read the media.

        Raises:
            InvalidInputError: if a node can't read some that others can, none can read any, or
                a node has not this version of this package
        """
        ray = self.ray
        view = source.view(examples, labels=False)
        self.source = source
        self.pixels = (
            source.patches_field is None and self._job.roi_field is None and images.are_images(view)
        )
        self.job = ray.put(pickle.dumps(self._job, protocol=5))
        # Copied with what it says, as an import on a node would import FiftyOne too early
        ray.cloudpickle.register_pickle_by_value(ray_actor)
        self._paths = [path for path in view.values("filepath") if path]
        nodes = {node["NodeID"]: node for node in self._nodes() if self._room(node)}
        logger.info(
            "Ray has %d nodes with room for workers; up to %d workers embed, and this process "
            "writes to the %s",
            len(nodes),
            self.count,
            self._writes_to,
        )
        found = self._look(list(nodes))
        # Of a file that no node sees, the report says that it is not there
        unseen = set(self._paths) & set(ray_actor.look(self._paths)[1])
        for _, missing in found.values():
            unseen &= set(missing)
        self._seen = set(self._paths) - unseen
        if unseen and not self._seen:
            raise InvalidInputError(
                f"No node of Ray can read any of the {len(unseen)} media that were tried, such as "
                f"'{min(unseen)}'; mount their folder at this path on each node"
            )
        for node_id, (version, missing) in found.items():
            self.check(node_id, version, missing)

    def _look(self, node_ids: list[str]) -> dict[str, tuple[str | None, list[str]]]:
        ray = self.ray
        look, paths = ray.remote(ray_actor.look), ray.put(self._paths)
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        asked = {
            look.options(num_cpus=0, scheduling_strategy=strategy(node_id, soft=False)).remote(
                paths
            ): node_id
            for node_id in node_ids
        }
        refs = list(asked)
        found = {}
        for ref in ray.wait(refs, num_returns=len(refs), timeout=_LOOK_SECONDS)[0] if refs else ():
            # A node that has just gone is of no interest; each worker looks again
            with contextlib.suppress(ray.exceptions.RayError):
                found[asked[ref]] = ray.get(ref)
        return found

    def look(self, actor: Any) -> Any:
        """Asks an actor for its node, and what is there."""
        return actor.look.remote(self._paths)

    def check(self, node_id: str, version: str | None, missing: list[str]) -> None:
        """Raises InvalidInputError if a node can't be used."""
        if version != __version__:
            has = f"has fiftyone-milvus {version}" if version else "has no fiftyone-milvus"
            raise InvalidInputError(
                f"Ray's node at {self.address(node_id)} {has}, and this process {__version__}; run "
                f"pip install 'fiftyone-milvus[ray]=={__version__}' there"
            )
        if unreadable := self._seen & set(missing):
            raise InvalidInputError(
                f"Ray's node at {self.address(node_id)} can't read {len(unreadable)} of "
                f"{len(self._paths)} media that were tried, such as '{min(unreadable)}'; mount "
                "their folder at this path on each node"
            )

    def address(self, node_id: str) -> str:
        """Returns where a node is, for messages."""
        found = [n["NodeManagerAddress"] for n in self.ray.nodes() if n["NodeID"] == node_id]
        return found[0] if found else node_id

    # -- workers ------------------------------------------------------------------------------

    def worker(self) -> Worker:
        """Asks Ray for another actor."""
        return _Actor(self)

    def waiting(self, seconds: float) -> None:
        """Is called while a worker waits for Ray to start it.

        Raises:
            WorkerError: if none runs, and it has waited for long
        """
        with self._lock:
            if seconds < _SAY_SECONDS or (self._said and self.running):
                return
            if not self.running and seconds > _START_SECONDS:
                raise WorkerError(
                    f"Ray has started no worker within {_START_SECONDS:.0f} s, as no node has "
                    f"{self._needs}; see `ray status`"
                )
            if not self._said:
                logger.warning(
                    "Ray has started %d of %d workers; the others wait until a node has %s",
                    len(self.running),
                    self.count,
                    self._needs,
                )
            self._said = True

    def settings(self) -> dict[str, Any]:
        """FiftyOne's settings, of which none is secret."""
        found = {name: getattr(fo.config, name, None) for name in _SETTINGS}
        return {name: value for name, value in found.items() if value is not None}

    def database(self) -> dict[str, Any]:
        """FiftyOne's settings for its database, with its secrets."""
        uri, port = fo.config.database_uri, os.environ.get("FIFTYONE_PRIVATE_DATABASE_PORT")
        if uri is None:
            # FiftyOne's own, which is on this machine only
            uri = f"mongodb://127.0.0.1:{port}"
        return {"database_uri": uri, **{name: getattr(fo.config, name) for name in _DATABASE}}


class _Actor(Worker):
    def __init__(self, pool: RayPool) -> None:
        self._pool, self._ray = pool, pool.ray
        self._killed = False
        self._where = ""
        actor = self._ray.remote(ray_actor.Embedder)
        # Another one in its place is asked for here, as its part must be embedded again
        self._actor = actor.options(
            num_cpus=1, num_gpus=pool.gpus, max_restarts=0, max_task_retries=0
        ).remote()

    def start(self) -> None:
        pool = self._pool
        node_id, *seen = self._get(pool.look(self._actor), waits=True)
        self._where = f"on {pool.address(node_id)} "
        pool.running.add(self)
        pool.check(node_id, *seen)
        if self._ask(self._actor.start.remote(pool.job, pool.settings(), pool.pixels)):
            pool.pixels = False
            self._ask(self._actor.connect.remote(pool.database()))
            self._by_paths = False
        else:
            self._by_paths = True

    def embed(self, part: Expected) -> Found:
        given: Any = part
        if self._by_paths:
            given = self._pool.source.view(part).values(["id", "filepath"])
        found: Found = self._ask(self._actor.embed.remote(pickle.dumps(given, protocol=5)))
        return found

    def kill(self) -> None:
        self._killed = True
        self._pool.running.discard(self)
        with contextlib.suppress(Exception):
            self._ray.kill(self._actor)

    def _ask(self, ref: Any) -> Any:
        answer = pickle.loads(self._get(ref))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _get(self, ref: Any, *, waits: bool = False) -> Any:
        errors, began = self._ray.exceptions, time.monotonic()
        try:
            while not self._ray.wait([ref], timeout=_POLL_SECONDS)[0]:
                if self._killed:
                    raise Lost("was ended")
                if waits:
                    self._pool.waiting(time.monotonic() - began)
            return self._ray.get(ref)
        except errors.RayTaskError as error:
            raise WorkerError(f"A worker {self._where}failed: {reason(error.cause)}") from None
        except errors.RayError as error:
            raise Lost(f"{self._where}was lost{_why(error)}") from None


def _why(error: Exception) -> str:
    text = str(error)
    if "node has died" in text or "node was terminated" in text or "NodeDied" in text:
        return " with its node"
    if "OutOfMemory" in type(error).__name__ or "running low on memory" in text:
        return ", as its node was short of memory"
    return f" ({type(error).__name__})"


@contextlib.contextmanager
def _own_handler() -> Iterator[None]:
    """Keeps what this process does at SIGTERM, which Ray changes."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)
