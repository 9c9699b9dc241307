"""Embeddings come back: all of them or some, as they were, in bounded memory."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from pymilvus import DataType, MilvusClient

from fiftyone_milvus.collection import streams
from fiftyone_milvus.collection.reads import Reads
from fiftyone_milvus.connection.client import client_kwargs
from tests.support.indexes import (
    KEY,
    Indexed,
    credentials,
    image_dataset,
    index_images,
    python,
    unique,
    unknown_id,
    vectors,
)

ROWS = 3_000
DIM = 8
STRANGE = [
    'quo"te',
    "apo'strophe",
    "back\\slash",
    'ends with \\"',
    "tab\there",
    "line\nbreak",
    "ünïcödé",
    "日本語",
    "emoji 🦜",
    " blank ",
    "%like_",
    "{template}",
    "}",
    "0",
    "A",
    "a",
    "z" * 500,
]


@pytest.fixture(scope="module")
def stored(engine: Any) -> Iterator[Indexed]:
    """Samples in several segments; read only."""
    indexed = index_images(engine, ROWS, "euclidean", dim=DIM)
    indexed.index.client.flush(indexed.index.config.collection_name)
    yield indexed
    indexed.drop()


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(streams, "PAGE_ROWS", 100)
    monkeypatch.setattr(streams, "_FIRST_LIMIT", 10)
    return 100


@pytest.fixture
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reads, "_fetch_rows", lambda self: 64)


def once(ids: Iterable[str]) -> set[str]:
    """Returns the IDs as a set; fails if one came twice."""
    ids = list(ids)
    repeated = [i for i, count in Counter(ids).items() if count > 1]
    assert not repeated, f"{len(repeated)} came more than once, eg {repeated[0]!r}"
    return set(ids)


def check_batches(batches: Any, expected: dict[str, np.ndarray], by_label: bool = False) -> None:
    """Fails unless the batches hold exactly the expected vectors, each once."""
    found: dict[str, np.ndarray] = {}
    for embeddings, sample_ids, label_ids in batches:
        ids = label_ids if by_label else sample_ids
        assert embeddings.dtype == np.float32
        assert len(embeddings) == len(sample_ids) == len(ids) > 0
        assert isinstance(sample_ids, np.ndarray)
        assert (label_ids is not None) == by_label
        assert not set(ids) & set(found)
        found.update(zip(ids.tolist(), embeddings, strict=True))
    assert set(found) == set(expected)
    for i, vector in expected.items():
        np.testing.assert_array_equal(found[i], vector)


# -- pages of IDs -------------------------------------------------------------------------------


@pytest.mark.parametrize("strong", [False, True])
def test_every_id_comes_once(stored, small_pages, strong):
    pages = list(stored.index._collection.id_pages(strong=strong))
    assert len(pages) > 10
    # A server answers with up to so many of each segment
    assert max(len(page.ids) for page in pages) <= 4 * small_pages
    ids = [i for page in pages for i in page.ids]
    assert once(ids) == set(stored.ids)
    assert ids == [i for page in pages for i in page.sample_ids]


def test_one_page_where_one_is_enough(stored):
    (page,) = stored.index._collection.id_pages()
    assert once(page.ids) == set(stored.ids)


def test_ids_of_patches(cosine_patches, small_pages, monkeypatch):
    monkeypatch.setattr(streams, "PAGE_ROWS", 20)
    collection = cosine_patches.index._collection
    collection.wait_until_loaded()
    pages = list(collection.id_pages())
    pairs = [pair for page in pages for pair in zip(page.ids, page.sample_ids, strict=True)]
    assert len(pages) > 1
    assert once(i for i, _ in pairs) == set(cosine_patches.samples)
    assert dict(pairs) == cosine_patches.samples
    keys = [i for page in collection.id_pages(with_samples=False) for i in page.ids]
    assert once(keys) == set(cosine_patches.samples)


def test_a_collection_that_was_just_made(engine, dropped):
    indexed = index_images(engine, 200, "cosine")
    dropped.append(indexed)
    # A server is still loading it
    assert once(i for page in indexed.index._collection.id_pages() for i in page.ids) == set(
        indexed.ids
    )
    check_batches(indexed.index.iter_embeddings(batch_size=30), indexed.vectors)


def test_rows_that_stay_come_once_while_others_change(engine, dropped, small_pages):
    indexed = index_images(engine, 1_200, "euclidean", dim=DIM)
    dropped.append(indexed)
    index = indexed.index
    index.client.flush(index.config.collection_name)
    deleted, updated = indexed.ids[::3], indexed.ids[1::3]
    seen: list[str] = []
    for number, page in enumerate(index._collection.id_pages(strong=True)):
        seen += page.ids
        if number % 3 == 0:
            start = 10 * number
            index.remove_from_index(sample_ids=deleted[start : start + 10], reload=False)
            again = updated[start : start + 10]
            index.add_to_index(indexed.matrix(again) + 1, again, reload=False)
            new = image_dataset(10)
            index.add_to_index(vectors(10, DIM), new.values("id"), reload=False)
            new.delete()
    stay = set(indexed.ids) - set(deleted)
    assert stay <= once(seen)


def test_what_another_client_wrote_is_seen(engine, dropped):
    indexed = index_images(engine, 50, "euclidean", dim=DIM)
    dropped.append(indexed)
    index = indexed.index
    index._collection.wait_until_loaded()
    name, new = index.config.collection_name, unknown_id()
    row = {"pk": new, "sample_id": new, "vector": [0.5] * DIM}
    kwargs = client_kwargs(index.connection.target)
    where = {name: kwargs[name] for name in ("uri", "token", "db_name") if name in kwargs}
    python(
        """
        import json, sys
        from pymilvus import MilvusClient
        MilvusClient(**json.loads(sys.argv[1])).insert(sys.argv[2], [json.loads(sys.argv[3])])
        """,
        json.dumps(where),
        name,
        json.dumps(row),
    )
    ids = [i for page in index._collection.id_pages(strong=True) for i in page.ids]
    assert once(ids) == {*indexed.ids, new}


# -- collections of others ----------------------------------------------------------------------


def others(client: MilvusClient, keys: list[str], data: np.ndarray) -> str:
    """Returns the name of a new collection with names of its own and no sample IDs."""
    name = unique("others")
    schema = client.create_schema(auto_id=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=1024)
    schema.add_field("emb", DataType.FLOAT_VECTOR, dim=data.shape[1])
    index = client.prepare_index_params()
    index.add_index("emb", index_type="FLAT", metric_type="L2", index_name="emb")
    client.create_collection(name, schema=schema, index_params=index)
    # In several segments
    for start in range(0, len(keys), 500):
        part = slice(start, start + 500)
        client.insert(
            name, [{"key": k, "emb": v} for k, v in zip(keys[part], data[part], strict=True)]
        )
        client.flush(name)
    return name


@pytest.fixture
def foreign(engine: Any, cosine_images: Indexed) -> Iterator[Any]:
    """Makes an index on a collection of others."""
    client = cosine_images.index.client
    made: list[tuple[str, fo.Dataset]] = []

    def make(keys: list[str], data: np.ndarray) -> Any:
        name = others(client, keys, data)
        dataset = fo.Dataset(unique("others"))
        made.append((name, dataset))
        return fob.compute_similarity(
            dataset,
            embeddings=False,
            brain_key=KEY,
            backend="milvus",
            metric="euclidean",
            collection_name=name,
            **engine.kwargs,
        )

    yield make
    for name, dataset in made:
        client.drop_collection(name)
        dataset.delete()


def test_keys_of_any_kind(foreign, monkeypatch):
    monkeypatch.setattr(streams, "PAGE_ROWS", 4)
    monkeypatch.setattr(streams, "_FIRST_LIMIT", 2)
    data = vectors(len(STRANGE), DIM)
    index = foreign(STRANGE, data)
    pages = list(index._collection.id_pages())
    assert len(pages) >= len(STRANGE) // 4
    assert once(i for page in pages for i in page.ids) == set(STRANGE)
    np.testing.assert_array_equal(index._collection.fetch(STRANGE).vectors, data)
    assert not list(index.iter_embeddings(batch_size=5)), "they are no IDs of FiftyOne"
    ids, _ = index._collection.all_ids()
    assert ids == sorted(STRANGE)


def test_rows_that_are_there_twice_come_once(foreign, small_pages):
    """As a server keeps them if they are inserted twice, in one segment or in two."""
    keys = [f"{i:024d}" for i in range(500)]
    index = foreign(keys + keys[::-1] + keys[100:200], vectors(1_100, DIM))
    assert once(i for page in index._collection.id_pages() for i in page.ids) == set(keys)
    assert once(i for _, ids, _ in index.iter_embeddings(batch_size=64) for i in ids) == set(keys)


# -- embeddings ---------------------------------------------------------------------------------


def test_embeddings_by_id_across_answers(stored, small_answers):
    rng = np.random.default_rng(3)
    wanted = list(rng.choice(stored.ids, 300, replace=False))
    given = [*wanted[:150], unknown_id(), *wanted[150:], unknown_id()]
    embeddings, sample_ids, label_ids = stored.index.get_embeddings(sample_ids=given)
    assert label_ids is None
    assert list(sample_ids) == wanted
    np.testing.assert_array_equal(embeddings, stored.matrix(wanted))


def test_embeddings_of_the_whole_index(stored, small_answers, small_pages):
    embeddings, sample_ids, _ = stored.index.get_embeddings()
    check_batches([(embeddings, sample_ids, None)], stored.vectors)


def test_missing_ids_are_said(stored, caplog):
    given = [stored.ids[0], unknown_id(), stored.ids[1]]
    with caplog.at_level("WARNING", logger="fiftyone_milvus"):
        _, sample_ids, _ = stored.index.get_embeddings(sample_ids=given, warn_missing=True)
    assert list(sample_ids) == [given[0], given[2]]
    assert "Ignoring 1 IDs" in caplog.text
    with pytest.raises(ValueError, match=given[1]):
        stored.index.get_embeddings(sample_ids=given, allow_missing=False)


def test_every_bit_comes_back(engine, dropped):
    """Also of the numbers that a detour through decimal digits or float64 might change."""
    edges = [0.0, -0.0, 1e-45, -1e-40, 3.4028235e38, 1 / 3, np.pi, 1 + 2**-23]
    rng = np.random.default_rng(0)
    data = rng.permuted(np.tile(np.array(edges, np.float32), (40, 1)), axis=1)
    dataset = image_dataset(len(data))
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        metric="dotproduct",
        **engine.kwargs,
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, {}))
    index._collection.wait_until_loaded()
    embeddings, _, _ = index.get_embeddings(sample_ids=dataset.values("id"))
    np.testing.assert_array_equal(embeddings.view(np.uint32), data.view(np.uint32))


# -- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 64, np.int64(999), 10_000])
def test_the_index_as_a_stream(stored, small_pages, batch_size):
    batches = list(stored.index.iter_embeddings(batch_size=batch_size))
    check_batches(batches, stored.vectors)
    if batch_size is not None:
        full, rest = divmod(ROWS, int(batch_size))
        sizes = [len(embeddings) for embeddings, _, _ in batches]
        assert sizes == [batch_size] * full + [rest] * (rest > 0)


def test_a_stream_of_patches(cosine_patches):
    batches = list(cosine_patches.index.iter_embeddings(batch_size=25))
    assert len(batches) > 1
    check_batches(batches, cosine_patches.vectors, by_label=True)
    for _, sample_ids, label_ids in batches:
        assert [cosine_patches.samples[i] for i in label_ids] == list(sample_ids)


def test_a_stream_of_a_view(cosine_images):
    view = cosine_images.dataset.match(F("number") >= 40).sort_by("number", reverse=True)
    inside = view.values("id")
    gone = inside[:3]
    cosine_images.index.use_view(view)
    batches = list(cosine_images.index.iter_embeddings(batch_size=100))
    assert [i for _, ids, _ in batches for i in ids] == inside
    assert gone[0] in inside
    check_batches(batches, {i: cosine_images.vectors[i] for i in inside})


def test_a_stream_of_a_view_of_patches(cosine_patches):
    view = cosine_patches.dataset.match(F("number") < 20)
    inside = view.values("ground_truth.detections.id", unwind=True)
    cosine_patches.index.use_view(view)
    batches = cosine_patches.index.iter_embeddings(batch_size=7)
    check_batches(batches, {i: cosine_patches.vectors[i] for i in inside}, by_label=True)


def test_a_stream_of_a_view_that_is_partly_indexed(engine, datasets, dropped):
    dataset = datasets(30)
    ids = dataset.values("id")
    data = vectors(30, DIM)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    assert list(index.iter_embeddings()) == []
    index.add_to_index(data[:18], ids[:18])
    index.use_view(dataset[10:])
    check_batches(index.iter_embeddings(batch_size=4), dict(zip(ids[10:18], data[10:18])))
    index.cleanup()


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "10", True, [5]])
def test_a_bad_batch_size_is_refused_at_once(stored, batch_size):
    with pytest.raises(ValueError, match="batch_size"):
        stored.index.iter_embeddings(batch_size=batch_size)


def test_a_stream_that_is_left_early_leaves_nothing_behind(stored, small_pages):
    threads = threading.active_count()
    for _ in range(3):
        stream = stored.index.iter_embeddings(batch_size=100)
        next(stream)
        stream.close()
    assert threading.active_count() <= threads


# -- memory -------------------------------------------------------------------------------------

_VISUALIZE = """
    import sys
    from pathlib import Path

    import fiftyone as fo
    import fiftyone.brain as fob
    import numpy as np
    import fiftyone_milvus

    def peak_of(work):
        def status(name):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(x for x in lines if x.startswith(name)).split()[1]) >> 10
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = status("VmRSS")
        work()
        return status("VmHWM") - before

    dataset = fo.load_dataset(sys.argv[1])
    index = dataset.load_brain_results("sim")
    some = dataset.limit(100)
    array = index.get_embeddings(sample_ids=some.values("id"))[0]
    dim = array.shape[1]
    pca = dict(method="pca", num_dims=2, seed=51)
    fob.compute_visualization(some, embeddings=array, **pca)
    size = 4 * len(dataset) * dim >> 20

    def from_array():
        array = np.random.default_rng(0).random((len(dataset), dim), dtype=np.float32)
        fob.compute_visualization(dataset, embeddings=array, **pca)

    def from_index():
        results = fob.compute_visualization(dataset, similarity_index=index, **pca)
        assert results.points.shape == (len(dataset), 2)

    read = peak_of(lambda: index.get_embeddings(sample_ids=dataset.values("id")))
    stream = peak_of(lambda: [None for _ in index.iter_embeddings()])
    print(size, read - size, stream, peak_of(from_array), peak_of(from_index))
"""


def test_visualizing_takes_the_array_and_little_beside(engine, dropped):
    count, dim = 4_900, 2_048
    dataset = image_dataset(count)
    data = np.random.default_rng(0).random((count, dim), dtype=np.float32)
    # What is read does not depend on the index type, and a server would build one of these
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        index_type="FLAT",
        **engine.kwargs,
    )
    dropped.append(Indexed(dataset, index, "cosine", {}, {}))
    del data
    out = python(_VISUALIZE, dataset.name, env=credentials(engine.kwargs), fresh=True)
    size, read, stream, array, indexed = map(int, out.split()[-5:])
    assert read <= 60, f"get_embeddings took {read} MB beside an array of {size} MB"
    assert stream <= 60, f"iter_embeddings took {stream} MB for an array of {size} MB"
    assert indexed - array <= 40, f"{indexed} MB from the index, {array} MB from an array"
