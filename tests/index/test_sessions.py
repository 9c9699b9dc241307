"""One index, several processes: saved runs, writes that others see, runs while Milvus is down.

A process that imports FiftyOne takes seconds to start, so each here answers several questions.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from tests.conftest import Engine
from tests.support import oracle
from tests.support.indexes import (
    KEY,
    Indexed,
    collections,
    credentials,
    index_images,
    index_patches,
    one_line,
    python,
    vectors,
)

MODEL = "contract-colours"

READER = """
import json, multiprocessing, sys
import fiftyone as fo
import numpy as np

arguments = json.loads(sys.argv[1])
fo.config.model_zoo_dir = arguments["zoo"]
kwargs = arguments["kwargs"]
images, patches, colours = (fo.load_dataset(n) for n in arguments["datasets"])

# No environment variable says where Milvus is: the later searches use the loaded index.
index = images.load_brain_results("sim", **kwargs)
query = arguments["query"]
answers = {
    "module": type(index).__module__,
    "size": index.total_index_size,
    "plain": images.sort_by_similarity(query, k=7, brain_key="sim").values("id"),
    "part": images.skip(10).sort_by_similarity(query, k=7, brain_key="sim").values("id"),
    "least": images.sort_by_similarity(query, k=7, reverse=True, brain_key="sim").values("id"),
}

patches.load_brain_results("sim", **kwargs)
view = patches.to_patches("ground_truth")
view = view.sort_by_similarity(arguments["patch"], k=6, brain_key="sim")
answers["patches"] = view.values("id")

colours.load_brain_results("sim", **kwargs)
view = colours.sort_by_similarity("mostly blue", k=10, brain_key="sim")
answers["prompt"] = view.values("colour")

vector = np.full(16, 0.1, dtype=np.float32)

def search(_):
    return index._kneighbors(query=vector, k=5)[0]

answers["before fork"] = search(0)
if arguments["fork"]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers["children"] = pool.map_async(search, range(4)).get(timeout=240)
answers["after fork"] = search(0)
print("ANSWERS " + json.dumps(answers))
"""

WRITER = """
import sys
import numpy as np
import fiftyone as fo
for name in sys.argv[1:3]:
    dataset = fo.load_dataset(name)
    index = dataset.load_brain_results("sim")
    first, last = dataset.first().id, dataset.last().id
    index.remove_from_index(sample_ids=[first])
    index.add_to_index(np.full((1, 16), 0.5, dtype=np.float32), np.array([last]))
    print("SIZE", index.total_index_size)
"""


def _marked(output: str, mark: str) -> list[str]:
    """Returns what was printed after a mark: other lines are FiftyOne's log."""
    return [
        line.removeprefix(mark).strip() for line in output.splitlines() if line.startswith(mark)
    ]


@pytest.fixture(scope="module")
def saved(engine: Engine) -> Iterator[tuple[Indexed, Indexed]]:
    """An index of images and one of patches in datasets that persist."""
    images, patches = index_images(engine, 40, "euclidean"), index_patches(engine, 24, "cosine")
    for indexed in (images, patches):
        indexed.dataset.persistent = True
    yield images, patches
    for indexed in (images, patches):
        indexed.drop()


def test_saved_indexes_in_a_fresh_process(engine, saved, colours, model_zoo):
    """Nothing is imported there but FiftyOne: the runs know their class, and their model's name."""
    images, patches = saved
    colours.persistent = True
    model = fob.compute_similarity(
        colours, model=MODEL, brain_key=KEY, backend="milvus", metric="cosine", **engine.kwargs
    )
    query, patch = images.ids[3], patches.ids[5]
    arguments = {
        "kwargs": engine.kwargs,
        "datasets": [images.dataset.name, patches.dataset.name, colours.name],
        "query": query,
        "patch": patch,
        "fork": hasattr(os, "fork"),
        "zoo": str(model_zoo),
    }
    try:
        output = python(READER, json.dumps(arguments))
    finally:
        model.cleanup()
    got = json.loads(_marked(output, "ANSWERS")[0])

    assert got["module"].startswith("fiftyone_milvus")
    assert got["size"] == 40
    oracle.check_ranking(got["plain"], images.true(query), 7)
    oracle.check_ranking(got["least"], images.true(query), 7, reverse=True)
    oracle.check_ranking(got["part"], images.true(query, among=images.ids[10:]), 7)
    oracle.check_ranking(got["patches"], patches.true(patch), 6)
    assert got["prompt"] == ["blue"] * 10
    assert got["after fork"] == got["before fork"]
    for child in got.get("children", []):
        assert child == got["before fork"]


def test_writes_of_another_process(engine, dropped):
    """At Strong they are found at once; counting is exact at any level."""
    strong = index_images(engine, 40, "euclidean", consistency_level="Strong")
    default = index_images(engine, 40, "euclidean")
    dropped += [strong, default]
    for indexed in dropped:
        indexed.dataset.add_sample(fo.Sample(filepath="late.jpg", number=40))
        indexed.dataset.persistent = True
    assert strong.index.index_size == default.index.index_size == 40
    names = [indexed.dataset.name for indexed in dropped]
    # Where Milvus is, that process reads in its environment
    output = python(WRITER, *names, env=credentials(engine.kwargs))
    assert _marked(output, "SIZE") == ["40", "40"]

    index, gone, new = strong.index, strong.ids[0], strong.dataset.last().id
    ids, _ = index._kneighbors(query=np.full(16, 0.5, dtype=np.float32), k=100)
    assert ids[0] == new
    assert gone not in ids
    assert len(ids) == 40
    embeddings, found, _ = index.get_embeddings(sample_ids=[gone, new])
    assert list(found) == [new]
    np.testing.assert_array_equal(embeddings, np.full((1, 16), 0.5))
    index.reload()
    assert new in index.sample_ids
    assert gone not in index.sample_ids
    assert index.total_index_size == default.index.total_index_size == 40


def test_milvus_by_default_and_the_orm_beside_it(engine):
    """The documented environment variables and ORM lines, and nothing about deprecations."""
    output = python(
        """
        import fiftyone as fo, fiftyone.brain as fob, numpy as np
        import fiftyone_milvus
        dataset = fo.Dataset()
        dataset.add_samples([fo.Sample(filepath=f"{i}.jpg") for i in range(12)])
        index = fob.compute_similarity(
            dataset, embeddings=np.eye(12, 16, dtype=np.float32) + 0.01, brain_key="sim"
        )
        print("INDEX", type(index).__module__, index.config.method, index.total_index_size)
        view = dataset.sort_by_similarity(dataset.first().id, k=3, brain_key="sim")
        print("VIEW", len(view), view.first().id == dataset.first().id)
        print("ORM", index.collection.name == index.config.collection_name)
        import pymilvus
        print("ORM", index.config.collection_name in pymilvus.utility.list_collections())
        index.cleanup()
        dataset.delete()
        """,
        env={
            "FIFTYONE_BRAIN_DEFAULT_SIMILARITY_BACKEND": "milvus",
            **credentials(engine.kwargs),
        },
    )
    module, method, size = _marked(output, "INDEX")[0].split()
    assert module.startswith("fiftyone_milvus")
    assert (method, size) == ("milvus", "12")
    assert _marked(output, "VIEW") == ["3 True"]
    assert _marked(output, "ORM") == ["True", "True"]


def test_loading_a_run_connects_to_nothing(embedded_path: Path, dropped):
    """The App loads runs to list them; only their use needs Milvus."""
    engine = Engine("embedded", {"uri": str(embedded_path)})
    indexed = index_images(engine, 20, "cosine")
    dropped.append(indexed)
    indexed.dataset.persistent = True
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        output = python(
            """
            import sys
            import fiftyone as fo
            dataset = fo.load_dataset(sys.argv[1])
            index = dataset.load_brain_results("sim")
            info = dataset.get_brain_info("sim")
            print("CONFIG", index.config.metric, info.config.method, index.config.collection_name)
            for use in (
                lambda: index.total_index_size,
                lambda: dataset.sort_by_similarity(dataset.first().id, k=3, brain_key="sim"),
            ):
                try:
                    use()
                except ValueError as error:
                    print("ERROR", type(error).__name__, str(error).count(chr(10)), error)
                else:
                    raise AssertionError("nothing listens there")
            """,
            indexed.dataset.name,
            env=credentials({"uri": f"http://{address}"}),
        )
    collection = indexed.index.config.collection_name
    assert _marked(output, "CONFIG") == [f"cosine milvus {collection}"]
    errors = _marked(output, "ERROR")
    assert len(errors) == 2
    for line in errors:
        name, newlines, message = line.split(" ", 2)
        assert (name, newlines) == ("UnreachableError", "0")
        assert address in message


def test_an_unreachable_server_leaves_nothing_behind(datasets):
    dataset = datasets(10)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        before = time.monotonic()
        with pytest.raises(ValueError, match=str(reserved.getsockname()[1])) as error:
            fob.compute_similarity(
                dataset, embeddings=vectors(10), brain_key=KEY, backend="milvus", uri=uri
            )
        assert time.monotonic() - before < 10
    one_line(error.value)
    assert dataset.list_brain_runs() == []
    dataset.reload()
    assert dataset.list_brain_runs() == []


def test_two_handles_of_one_process(engine, dropped):
    """What one object of an index writes, another one of the same process finds at once."""
    indexed = index_images(engine, 20, "euclidean")
    dropped.append(indexed)
    other: Any = indexed.dataset.load_brain_results(KEY, cache=False, **engine.kwargs)
    assert other is not indexed.index
    target = np.full((1, 16), 3.0, dtype=np.float32)
    indexed.index.add_to_index(target, np.array(indexed.ids[:1]))
    assert other._kneighbors(query=target[0], k=1)[0] == indexed.ids[:1]
    indexed.index.remove_from_index(sample_ids=indexed.ids[:1])
    assert other._kneighbors(query=target[0], k=20)[0].count(indexed.ids[0]) == 0
    assert other.total_index_size == 19


def test_indexes_do_not_mix(engine, dropped):
    """Two indexes of one dataset live in two collections."""
    first = index_images(engine, 20, "cosine")
    dropped.append(first)
    second = fob.compute_similarity(
        first.dataset,
        embeddings=vectors(20, 8, seed=9),
        brain_key="other",
        backend="milvus",
        **engine.kwargs,
    )
    assert second.config.collection_name != first.index.config.collection_name
    second.remove_from_index(sample_ids=first.ids[:10])
    assert first.index.total_index_size == 20
    second.cleanup()
    assert first.index.config.collection_name in collections(first.index)
    assert len(first.dataset.sort_by_similarity(first.ids[0], k=5, brain_key=KEY)) == 5
