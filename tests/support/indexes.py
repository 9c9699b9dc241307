"""What the contract tests share: small data sets, indexes with their truth, other processes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from bson import ObjectId

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import close_all
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.moving import builtin
from fiftyone_milvus.writing.writer import Writer
from tests.support import oracle
from tests.support.warm import WARM

DIM = 16
KEY = "sim"

_numbers = itertools.count()


def vectors(count: int, dim: int = DIM, *, seed: int = 51, clusters: int = 8) -> np.ndarray:
    """Returns clustered float32 vectors of about unit length, no two of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.normal(size=(count, dim)) * 0.5 / np.sqrt(dim)
    scale = rng.uniform(0.7, 1.3, size=(count, 1))
    return ((centres[rng.integers(clusters, size=count)] + noise) * scale).astype(np.float32)


def unique(prefix: str) -> str:
    """Returns a name that no other test, process or earlier run uses."""
    return f"{prefix}_{os.getpid()}_{next(_numbers)}_{os.urandom(3).hex()}"


def image_dataset(count: int, name: str | None = None) -> fo.Dataset:
    """Returns a dataset of ``count`` samples with an integer ``number`` each."""
    dataset = fo.Dataset(name or unique("contract"))
    if not count:
        return dataset
    add_samples(dataset, [{"filepath": f"image-{i:06d}.jpg", "number": i} for i in range(count)])
    return dataset


def add_samples(dataset: fo.Dataset, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds samples as FiftyOne does, which takes a second for 2,000.

    Args:
        dataset: one without samples
        rows: the path and the other fields of each, which are strings and numbers
    """
    dataset.add_sample(fo.Sample(**rows[0]))
    written = dataset._sample_collection
    first = written.find_one()
    others = [
        {
            **first,
            **row,
            "_id": ObjectId(),
            "_rand": i / len(rows),
            "filepath": os.path.abspath(row["filepath"]),
        }
        for i, row in enumerate(rows[1:], 1)
    ]
    if others:
        written.insert_many(others)


def copy_of(dataset: fo.Dataset) -> fo.Dataset:
    """Returns a clone whose samples and labels have IDs of their own."""

    def renewed(value: Any) -> Any:
        if isinstance(value, list):
            return [renewed(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {n: ObjectId() if n == "_id" else renewed(one) for n, one in value.items()}

    clone = dataset.clone(unique("copy"))
    documents = list(clone._sample_collection.find())
    clone._sample_collection.delete_many({})
    clone._sample_collection.insert_many(renewed(documents))
    return clone


def patch_dataset(count: int, name: str | None = None) -> fo.Dataset:
    """Returns a dataset whose i-th sample has ``i % 4`` detections in ``ground_truth``."""
    dataset = fo.Dataset(name or unique("contract"))
    numbers = itertools.count()
    samples = []
    for i in range(count):
        objects = [
            fo.Detection(label="ab"[i % 2], bounding_box=[0.2 * j, 0.1, 0.2, 0.3], number=n)
            for j, n in zip(range(i % 4), numbers, strict=False)
        ]
        samples.append(
            fo.Sample(
                filepath=f"page-{i:06d}.jpg",
                number=i,
                ground_truth=fo.Detections(detections=objects) if i % 8 else None,
            )
        )
    dataset.add_samples(samples)
    return dataset


def unknown_id() -> str:
    """Returns a well-formed ID that nothing has."""
    return str(ObjectId())


@dataclass
class Indexed:
    """An index together with the vectors that it must hold."""

    dataset: fo.Dataset
    index: Any
    metric: str
    vectors: dict[str, np.ndarray]
    kwargs: dict[str, Any]
    samples: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return list(self.vectors)

    def matrix(self, ids: Iterable[str] | None = None) -> np.ndarray:
        rows = [self.vectors[_id] for _id in (self.ids if ids is None else ids)]
        # Not stack(), which takes three times as long
        return np.concatenate(rows).reshape(len(rows), -1)

    def true(
        self,
        query: str | Sequence[str] | np.ndarray,
        among: Iterable[str] | None = None,
        how: str = "mean",
    ) -> dict[str, float]:
        """Returns the distance of every answerable ID to a query of IDs or vectors."""
        if isinstance(query, str):
            query = [query]
        if not isinstance(query, np.ndarray):
            query = self.matrix(query)
        ids = self.ids if among is None else [_id for _id in among if _id in self.vectors]
        if not ids:
            return {}
        values = oracle.aggregated(self.metric, query, self.matrix(ids), how)
        return dict(zip(ids, values.tolist(), strict=True))

    def drop(self) -> None:
        self.index.cleanup()
        if not self.dataset.deleted:
            self.dataset.delete()


def index_images(
    engine: Any,
    count: int,
    metric: str,
    *,
    dim: int = DIM,
    dataset: fo.Dataset | None = None,
    brain_key: str | None = KEY,
    **kwargs: Any,
) -> Indexed:
    """Returns an index of the samples of a (new) dataset."""
    dataset = image_dataset(count) if dataset is None else dataset
    data = vectors(count, dim)
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=brain_key,
        backend="milvus",
        metric=metric,
        **engine.kwargs,
        **kwargs,
    )
    ids = dataset.values("id")
    return Indexed(
        dataset,
        index,
        metric,
        dict(zip(ids, data, strict=True)),
        dict(engine.kwargs),
        dict(zip(ids, ids, strict=True)),
    )


def index_patches(engine: Any, count: int, metric: str, **kwargs: Any) -> Indexed:
    """Returns an index of the detections of a new dataset; ``vectors`` has the label IDs."""
    dataset = patch_dataset(count)
    sample_ids, label_ids = dataset.values(["id", "ground_truth.detections.id"])
    owner = {
        _id: sample for sample, ids in zip(sample_ids, label_ids, strict=True) for _id in ids or []
    }
    data = vectors(len(owner), seed=52)
    index = fob.compute_similarity(
        dataset,
        patches_field="ground_truth",
        embeddings=False,
        brain_key=KEY,
        backend="milvus",
        metric=metric,
        **engine.kwargs,
        **kwargs,
    )
    index.add_to_index(data, np.array(list(owner.values())), label_ids=np.array(list(owner)))
    return Indexed(
        dataset, index, metric, dict(zip(owner, data, strict=True)), dict(engine.kwargs), owner
    )


def built_in(engine: Any, dataset: fo.Dataset, data: Any = False, **kwargs: Any) -> Any:
    """Returns an index of FiftyOne's own ``milvus`` backend, which opens Milvus Lite itself."""
    if engine.name == "embedded":
        embedded.stop(engine.kwargs["uri"])
        close_all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses pymilvus' ORM
        return fob.compute_similarity(
            dataset,
            embeddings=data,
            backend=builtin.config_class(),
            **{"brain_key": KEY, "metric": "cosine", **engine.kwargs, **kwargs},
        )


def holds(dataset: fo.Dataset, key: str, metric: str, truth: dict[str, np.ndarray]) -> None:
    """The index holds these vectors, bit by bit, and finds what it should."""
    index = dataset.load_brain_results(key)
    assert type(index) is MilvusSimilarityIndex
    found, sample_ids, label_ids = index.get_embeddings()
    ids = (sample_ids if label_ids is None else label_ids).tolist()
    assert sorted(ids) == sorted(truth)
    assert index.total_index_size == len(truth)
    for _id, vector in zip(ids, found):
        np.testing.assert_array_equal(vector, truth[_id])
    query = vectors(1, len(found[0]), seed=9)[0]
    samples, labels, dists = index._kneighbors(query=query, k=9, return_dists=True)
    values = oracle.distances(metric, query, np.stack(list(truth.values())))[0]
    true = dict(zip(truth, values.tolist(), strict=True))
    oracle.check_ranking(samples if labels is None else labels, true, 9, reported=dists)


@contextmanager
def interrupted(after: int) -> Iterator[None]:
    """Expects a block to be ended by Ctrl-C, which comes when so many batches were written."""
    add, count = Writer.add, itertools.count()

    def added(self: Writer, batch: Any) -> None:
        if next(count) == after:
            raise KeyboardInterrupt
        add(self, batch)
        self.send()
        self._collect(0)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Writer, "add", added)
        with pytest.raises(KeyboardInterrupt):
            yield


def credentials(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Returns connection parameters as the environment variables that FiftyOne reads."""
    return {
        f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{name.upper()}": str(value)
        for name, value in kwargs.items()
    }


def python(
    code: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    fresh: bool = False,
) -> str:
    """Runs code in a Python process of its own and returns what it printed.

    Args:
        code: what to run
        arguments: for ``sys.argv``
        env (None): variables to set over those of this process
        timeout (120): seconds
        fresh (False): whether the process must import FiftyOne itself. Those for which variables
            are set that it reads when it is imported always do

    Raises:
        AssertionError: if the process failed or printed warnings of pymilvus; its error output is
            the message
    """
    code, variables = textwrap.dedent(code), {**os.environ, **(env or {})}
    if fresh or not all(name.startswith("FIFTYONE_BRAIN_") for name in env or {}):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    else:
        done = WARM.run(code, *arguments, env=variables, timeout=timeout)
    assert done.returncode == 0, done.stderr
    # pymilvus' ORM announces its end on every call; that is ours to bear, not the user's
    assert "PyMilvusDeprecationWarning" not in done.stderr + done.stdout, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def collections(index: Any) -> set[str]:
    """Returns the names of all collections where an index lives."""
    return set(index.client.list_collections())


def one_line(error: BaseException) -> str:
    """Returns the message of an error, which must be a single line that says something."""
    message = str(error)
    assert message.strip()
    assert "\n" not in message.strip(), message
    return message
