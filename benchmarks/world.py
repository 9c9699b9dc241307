"""A private FiftyOne, MongoDB, embedded engine and Milvus server, for the time of one run."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_fixed

from benchmarks.vectors import Array, clustered

if TYPE_CHECKING:
    from tests.support.servers import MilvusServer

BUILT_IN = "fiftyone.brain.internal.core.milvus.MilvusSimilarityConfig"
METRIC = "cosine"


@dataclass
class World:
    """What the cases share. Use :func:`world`.

    Attributes:
        root: a temporary folder
        rows: of the large index
        dim: its dimension
        engines: those to measure
    """

    root: Path
    rows: int
    dim: int
    engines: list[Engine] = field(default_factory=list)

    @cached_property
    def _clustered(self) -> tuple[Array, Array]:
        return clustered(self.rows, self.dim)

    @property
    def vectors(self) -> Array:
        return self._clustered[0]

    @cached_property
    def dataset(self) -> Any:
        """A dataset of ``rows`` samples, with the cluster of each.

        ``share`` is a random permutation of 0..1, to take views of any size.
        """
        from cachetools import LRUCache

        dataset = make_dataset(self.rows, self._clustered[1])
        # FiftyOne keeps five loaded runs of a dataset, and would load the others for each query
        dataset._brain_cache = LRUCache(32)
        return dataset

    @cached_property
    def ids(self) -> list[str]:
        return list(self.dataset.values("id"))

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {_id: i for i, _id in enumerate(self.ids)}


@dataclass
class Engine:
    """One of the two engines.

    Attributes:
        name: ``"embedded"`` or ``"server"``
        uri: for this package
        built_in_uri: for the built-in backend, which opens Milvus Lite in this process
    """

    name: str
    uri: str
    built_in_uri: str
    world: World

    def kwargs(self, *, built_in: bool = False) -> dict[str, Any]:
        """What to pass to ``compute_similarity``."""
        kwargs: dict[str, Any] = {"backend": "milvus", "metric": METRIC}
        if built_in:
            return {**kwargs, "uri": self.built_in_uri, "config_cls": BUILT_IN}
        return {**kwargs, "uri": self.uri}

    @cached_property
    def client(self) -> Any:
        """A bare ``MilvusClient`` of what this package uses, none of its code involved."""
        from pymilvus import MilvusClient

        from fiftyone_milvus import embedded

        if self.name == "server":
            return MilvusClient(self.uri, dedicated=True)
        endpoint = embedded.ensure(Path(self.uri))
        return MilvusClient(endpoint.address, token=endpoint.token, dedicated=True)

    def endpoint(self) -> tuple[str, list[tuple[str, str]]]:
        """What gRPC wants to know: an address, and the metadata of each call."""
        from fiftyone_milvus import embedded

        if self.name == "server":
            return self.uri.removeprefix("http://"), []
        endpoint = embedded.ensure(Path(self.uri))
        token = base64.b64encode(endpoint.token.encode()).decode()
        return endpoint.address.removeprefix("http://"), [("authorization", token)]

    @cached_property
    def ours(self) -> Any:
        """This package's index of all vectors, ready."""
        return self._build("ours", built_in=False)

    @cached_property
    def with_fields(self) -> Any:
        """This package's index of all vectors with the fields of the dataset beside them."""
        return self._build("fields", built_in=False, fields=["share", "cluster"])

    @cached_property
    def built_in(self) -> Any:
        """The built-in backend's index of all vectors, ready."""
        return self._build("built_in", built_in=True)

    def of_metric(self, metric: str) -> Any:
        """This package's index of all vectors under another metric than :data:`METRIC`."""
        return self._build(metric, built_in=False, metric=metric)

    def _build(self, who: str, *, built_in: bool, **kwargs: Any) -> Any:
        kwargs = self.kwargs(built_in=built_in) | kwargs
        index = new_index(self.world.dataset, f"{who}_{self.name}", kwargs)
        index.add_to_index(self.world.vectors, self.world.ids)
        name = index.config.collection_name
        if self.name == "server":
            wait_indexed(self.client, name, self.world.rows)
        elif built_in:
            index.collection.release()
            index.collection.load()
        else:
            finish_lite(self.client, name)
        index._kneighbors(self.world.vectors[0], k=10)
        return index


def make_dataset(rows: int, clusters: Array | None = None) -> Any:
    """Returns a new dataset of that many samples, whose media files need not exist."""
    import fiftyone as fo
    import numpy as np

    # FiftyOne takes half a millisecond for each
    from tests.support.indexes import add_samples

    dataset = fo.Dataset()
    shares = np.random.default_rng(53).permutation(rows) / rows
    if clusters is None:
        clusters = np.zeros(rows, dtype=int)
    add_samples(
        dataset,
        [
            {"filepath": f"{i}.jpg", "share": float(share), "cluster": int(cluster)}
            for i, (share, cluster) in enumerate(zip(shares, clusters, strict=True))
        ],
    )
    return dataset


def new_index(dataset: Any, brain_key: str, kwargs: dict[str, Any]) -> Any:
    """Returns a new, empty index."""
    import fiftyone.brain as fob

    def make() -> Any:
        return fob.compute_similarity(dataset, brain_key=brain_key, embeddings=False, **kwargs)

    def forget(_: RetryCallState) -> None:
        if dataset.has_brain_run(brain_key):
            dataset.delete_brain_run(brain_key)

    if "config_cls" not in kwargs:
        return make()
    # Milvus Lite hangs up on pymilvus for pinging it while it is busy, whereupon the built-in
    # backend can't be made, but has registered its run
    retrying = Retrying(
        stop=stop_after_attempt(5), wait=wait_fixed(1), before_sleep=forget, reraise=True
    )
    return retrying(make)


def finish_lite(client: Any, collection: str) -> None:
    """Waits until Milvus Lite has built its index, which it does in the background."""
    client.release_collection(collection)
    client.load_collection(collection)
    while any(
        int(client.describe_index(collection, name).get("pending_index_rows", 0))
        for name in client.list_indexes(collection)
    ):
        time.sleep(0.05)


def wait_indexed(client: Any, collection: str, rows: int, timeout: float = 600) -> float:
    """Waits until a server searches all rows by their index; returns the seconds that took."""
    from fiftyone_milvus.writing.writer import FLUSH_ROWS

    start = time.perf_counter()
    if rows < FLUSH_ROWS:
        client.flush(collection)
    while time.perf_counter() - start < timeout:
        state = client.describe_index(collection, "vector")
        done = int(state.get("indexed_rows", 0)) >= rows and not int(
            state.get("pending_index_rows", 0)
        )
        if done and client.get_load_state(collection)["state"].name == "Loaded":
            return time.perf_counter() - start
        time.sleep(0.1)
    raise TimeoutError(f"{collection} is not indexed after {timeout} s: {state}")


@contextmanager
def world(rows: int, dim: int, names: list[str]) -> Iterator[World]:
    """Starts everything, and ends it. FiftyOne must not have been imported before."""
    from tests.support.environment import isolate
    from tests.support.mongo import Mongo
    from tests.support.servers import MilvusServer

    root = Path(tempfile.mkdtemp(prefix="fom-bench-"))
    ends: list[Callable[[], object]] = [lambda: shutil.rmtree(root, ignore_errors=True)]
    try:
        mongo = Mongo(root / "mongo")
        ends.append(mongo.stop)
        nowhere = isolate(root, mongo.uri)
        ends.append(nowhere.close)
        os.environ["FIFTYONE_LOGGING_LEVEL"] = "WARNING"
        import fiftyone_milvus  # noqa: F401  (takes over backend="milvus")

        found = World(root, rows, dim)
        if "embedded" in names:
            path = root / "ours.db"
            ends.append(lambda: _stop_embedded(path))
            found.engines.append(Engine("embedded", str(path), str(root / "built_in.db"), found))
        if "server" in names:
            server: MilvusServer = MilvusServer.start("plain", root / "server")
            ends.append(server.stop)
            found.engines.append(Engine("server", server.uri, server.uri, found))
        yield found
    finally:
        for end in reversed(ends):
            end()


def _stop_embedded(path: Path) -> None:
    from fiftyone_milvus import embedded

    embedded.stop(path)
