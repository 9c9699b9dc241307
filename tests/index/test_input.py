"""What a caller passes is used as it is, or refused in one line that names it: never altered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as foo
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from bson import ObjectId

import fiftyone_milvus
from fiftyone_milvus import MilvusSimilarityConfig, moving
from tests.conftest import Engine
from tests.support.indexes import (
    KEY,
    Indexed,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    vectors,
)

COUNT, DIM = 12, 8


@dataclass
class Given:
    """An index of samples, one of patches, and what belongs to neither."""

    images: Indexed
    patches: Indexed
    other: fo.Dataset
    engine: Engine
    known: list[Any] = field(default_factory=list)

    @property
    def index(self) -> Any:
        return self.images.index

    @property
    def dataset(self) -> fo.Dataset:
        return self.images.dataset

    @property
    def query(self) -> str:
        return self.images.ids[0]

    def add(self, values: Any, index: Any = None, **kwargs: Any) -> None:
        """Adds embeddings for the first two samples."""
        self.index.add_to_index(values, self.images.ids[:2], **kwargs)

    def compute(self, **kwargs: Any) -> Any:
        """Makes a second index of the dataset."""
        defaults = {"embeddings": False, "brain_key": "second", "backend": "milvus"}
        return fob.compute_similarity(self.dataset, **{**defaults, **self.engine.kwargs, **kwargs})

    def unchanged(self) -> bool:
        """Whether the indexes, the runs and the dataset are as they were the last time."""
        before, self.known = self.known, [self.state()]
        return not before or before == self.known

    def state(self) -> tuple[Any, ...]:
        found = []
        for indexed in (self.images, self.patches):
            embeddings, sample_ids, label_ids = indexed.index.get_embeddings()
            ids = sample_ids if label_ids is None else label_ids
            found.append(dict(zip(ids.tolist(), map(bytes, embeddings), strict=True)))
        runs = foo.get_db_conn()["runs"].count_documents({"_dataset_id": self.dataset._doc.id})
        names = sorted(self.index.client.list_collections())
        return found, runs, names, self.dataset.get_field_schema(flat=True).keys()


@pytest.fixture(scope="module")
def given(_embedded_session_path: Any) -> Iterator[Given]:
    """On the embedded engine: what is refused here, no engine gets to see."""
    engine = Engine("embedded", {"uri": str(_embedded_session_path)})
    images = index_images(engine, COUNT, "euclidean", dim=DIM)
    patches = index_patches(engine, COUNT, "euclidean")
    other = image_dataset(2)
    given = Given(images, patches, other, engine)
    assert given.unchanged()
    yield given
    images.drop()
    patches.drop()
    other.delete()


TWO, ALL = vectors(2, DIM), vectors(COUNT, DIM)


def as_array(given: Given, values: Any) -> Any:
    return values


def as_list(given: Given, values: Any) -> Any:
    return [*values]


def as_dict(given: Given, values: Any) -> Any:
    return dict(zip(given.images.ids, values, strict=True))


MASKED = np.ma.masked_array(TWO, mask=np.eye(2, DIM, dtype=bool))

NO_NUMBERS: list[Any] = [
    TWO + 1j,
    MASKED,
    [*MASKED],
    TWO.astype(str),
    [[str(x) for x in row] for row in TWO],
    TWO.astype(str).astype(object),
    [[None] * DIM, [0.5] * DIM],
    TWO > 0,
    (TWO > 0).astype(object),
    TWO.astype("S"),
    np.full((2, DIM), np.datetime64("2026-01-01")),
    scipy.sparse.csr_matrix(TWO),
    [[1.0, 2.0], [1.0]],
    {"a": 1},
]
NO_VECTOR = [
    *(value if isinstance(value, dict) else value[0] for value in NO_NUMBERS[:1]),
    MASKED[0],
    TWO > 0,
    (TWO > 0)[0],
    np.zeros((2, 2, DIM)),
    np.array(5.0),
    [[1.0, 2.0], [1.0]],
    scipy.sparse.csr_matrix(TWO),
    TWO[0] + 1j,
    5,
    True,
    None,
    b"twelve bytes",
    {"a": 1},
    [],
    [None],
    [b"twelve bytes"],
    TWO[0][:-1],
]
NO_IDS: list[Any] = [5, True, 1.5, b"twelve bytes", "", [5], [None], [b"x"], [""], {"a": 1}.items()]
NO_FLAG = ["no", "false", 2, 0.5, [True], None]
NO_COUNT = [0, -1, 1.5, "3", True, np.float64(3), np.bool_(True), [3]]
NO_DISTANCE = ["0.2", float("nan"), True, [0.2], 1j, b"1"]
NO_NAME = [True, 5, "", " ", b"x", ["x"]]

CASES: dict[str, tuple[Callable[[Given, Any], Any], list[Any]]] = {
    # What an index stores
    "add_to_index(embeddings)": (lambda g, v: g.add(v), NO_NUMBERS),
    "add_to_index(sample_ids)": (
        lambda g, v: g.index.add_to_index(TWO[:1], v),
        [*NO_IDS, None],
    ),
    "add_to_index(label_ids)": (
        lambda g, v: g.patches.index.add_to_index(vectors(1), [g.query], label_ids=v),
        NO_IDS,
    ),
    **{
        f"add_to_index({name})": (lambda g, v, name=name: g.add(TWO, **{name: v}), NO_FLAG)
        for name in ("overwrite", "allow_existing", "warn_existing", "reload")
    },
    **{
        f"{name}(embeddings: {form.__name__})": (
            lambda g, v, call=call, form=form: call(g, form(g, v)),
            [ALL + 1j, np.ma.masked_array(ALL, mask=ALL > 1), ALL.astype(str), ALL > 0],
        )
        for name, call in {
            "compute_similarity": lambda g, v: g.compute(embeddings=v),
            "sync": lambda g, v: g.compute(brain_key=None).sync(embeddings=v),
        }.items()
        for form in (as_array, as_list, as_dict)
    },
    "sync(samples)": (lambda g, v: g.index.sync(v, embeddings=TWO), [5, "view", [1], "other"]),
    **{
        f"sync({name})": (
            lambda g, v, name=name: g.index.sync(embeddings=TWO, **{name: v}),
            [v for v in NO_FLAG if v is not None],
        )
        for name in ("prune", "refresh", "skip_failures", "force_square", "fields")
    },
    "sync(alpha)": (lambda g, v: g.index.sync(embeddings=TWO, alpha=v), [-2, "1", True]),
    "sync(num_workers)": (
        lambda g, v: g.index.sync(embeddings=TWO, num_workers=v),
        [-1, 1.5, "2", True],
    ),
    "sync(batch_size)": (lambda g, v: g.index.sync(embeddings=TWO, batch_size=v), NO_COUNT),
    # Which rows
    "remove_from_index(sample_ids)": (lambda g, v: g.index.remove_from_index(v), [*NO_IDS, None]),
    "remove_from_index(label_ids)": (
        lambda g, v: g.patches.index.remove_from_index(label_ids=v),
        NO_IDS,
    ),
    "get_embeddings(sample_ids)": (lambda g, v: g.index.get_embeddings(v), NO_IDS),
    "get_embeddings(label_ids)": (
        lambda g, v: g.patches.index.get_embeddings(label_ids=v),
        NO_IDS,
    ),
    **{
        f"{method}({name})": (
            lambda g, v, method=method, name=name: getattr(g.index, method)(g.query, **{name: v}),
            NO_FLAG,
        )
        for method in ("remove_from_index", "get_embeddings")
        for name in ("allow_missing", "warn_missing")
    },
    "iter_embeddings(batch_size)": (lambda g, v: g.index.iter_embeddings(v), NO_COUNT),
    "use_view(samples)": (lambda g, v: g.index.use_view(v), [None, 5, "view", "other"]),
    "use_view(allow_missing)": (
        lambda g, v: g.index.use_view(g.dataset, allow_missing=v),
        NO_FLAG,
    ),
    # Searches
    **{
        f"{method}(query)": (
            lambda g, v, method=method: getattr(g.index, method)(v, k=3),
            NO_VECTOR,
        )
        for method in ("search", "sort_by_similarity", "explain")
    },
    **{
        f"{method}(k)": (
            lambda g, v, method=method: getattr(g.index, method)(g.query, k=v),
            NO_COUNT,
        )
        for method in ("search", "sort_by_similarity", "explain")
    },
    **{
        f"{method}(reverse)": (
            lambda g, v, method=method: getattr(g.index, method)(g.query, k=3, reverse=v),
            [v for v in NO_FLAG if v is not None],
        )
        for method in ("search", "sort_by_similarity")
    },
    **{
        f"{method}(aggregation)": (
            lambda g, v, method=method: getattr(g.index, method)(g.query, k=3, aggregation=v),
            ["median", 5, True, None, ["mean"]],
        )
        for method in ("search", "sort_by_similarity")
    },
    "sort_by_similarity(dist_field)": (
        lambda g, v: g.index.sort_by_similarity(g.query, k=3, dist_field=v),
        NO_NAME,
    ),
    "view(dist_field)": (
        lambda g, v: g.index.search(g.query, k=3).view(dist_field=v),
        NO_NAME,
    ),
    "view(dataset)": (
        lambda g, v: fiftyone_milvus.search_everywhere(g.query, k=3).view(v),
        [None, 5, "no such dataset"],
    ),
    "search(filter)": (lambda g, v: g.index.search(g.query, filter=v), NO_NAME),
    "search(max_distance)": (lambda g, v: g.index.search(g.query, max_distance=v), NO_DISTANCE),
    "search(group_by)": (lambda g, v: g.index.search(g.query, group_by=v), [True, "label", 5]),
    "explain(view)": (lambda g, v: g.index.explain(g.query, view=v), [5, "view", "other"]),
    "explain(analyze)": (lambda g, v: g.index.explain(g.query, analyze=v), NO_FLAG),
    "search_everywhere(query)": (
        lambda g, v: fiftyone_milvus.search_everywhere(v, datasets=g.dataset.name),
        [v for v in NO_VECTOR if not isinstance(v, np.ndarray) or v.shape != (DIM - 1,)],
    ),
    "search_everywhere(k)": (
        lambda g, v: fiftyone_milvus.search_everywhere(g.query, k=v),
        [*NO_COUNT, None],
    ),
    "search_everywhere(model)": (
        lambda g, v: fiftyone_milvus.search_everywhere(g.query, model=v),
        [True, 5, ["none"], ""],
    ),
    "search_everywhere(metric)": (
        lambda g, v: fiftyone_milvus.search_everywhere(g.query, metric=v),
        [True, 5, ["cosine"], "L2"],
    ),
    "search_everywhere(datasets)": (
        lambda g, v: fiftyone_milvus.search_everywhere(g.query, datasets=v),
        [True, 5, [5], "no such dataset", b"x"],
    ),
    "search_everywhere(brain_keys)": (
        lambda g, v: fiftyone_milvus.search_everywhere(g.query, brain_keys=v),
        [True, 5, [5], "no_such_key"],
    ),
    # Duplicates, and what measures
    "find_unique(count)": (lambda g, v: g.index.find_unique(v), [*NO_COUNT, None]),
    "find_duplicates(thresh)": (lambda g, v: g.index.find_duplicates(thresh=v), NO_DISTANCE),
    "find_duplicates(fraction)": (
        lambda g, v: g.index.find_duplicates(fraction=v),
        [2, -0.1, float("nan"), float("inf"), "0.5", True, [0.5]],
    ),
    **{
        f"{method}({name})": (
            lambda g, v, method=method, name=name: getattr(g.index, method)(**{name: v}),
            NO_COUNT,
        )
        for method, names in {
            "evaluate": ("queries", "k"),
            "nearest_distances": ("sample",),
            "tune": ("queries", "k"),
            "compare": ("queries", "k", "sample"),
        }.items()
        for name in names
    },
    **{
        f"{method}(seed)": (
            lambda g, v, method=method: getattr(g.index, method)(seed=v),
            [-1, 1.5, "1", True],
        )
        for method in ("evaluate", "nearest_distances", "tune", "compare")
    },
    **{
        f"{method}(recall)": (
            lambda g, v, method=method: getattr(g.index, method)(recall=v),
            [0, 1.1, "0.9", True, float("nan")],
        )
        for method in ("tune", "compare")
    },
    "tune(store)": (lambda g, v: g.index.tune(store=v), NO_FLAG),
    "compare(index_types)": (
        lambda g, v: g.index.compare(v),
        [True, 5, [5], "NONE", [("HNSW", 3)], []],
    ),
    # Moving
    **{
        f"{name}(dataset)": (lambda g, v, call=call: call(v, KEY), [None, 5, "dataset", [1]])
        for name, call in {
            "adopt": moving.adopt,
            "revert": moving.revert,
            "migrate": moving.migrate,
            "export_index": lambda dataset, key: moving.export_index(dataset, key, "x.parquet"),
            "import_index": lambda dataset, key: moving.import_index("x.parquet", dataset, key),
        }.items()
    },
    **{
        f"{name}(brain_key)": (
            lambda g, v, call=call: call(g.dataset, v),
            [None, True, 5, "", "no_such_key"],
        )
        for name, call in {
            "adopt": moving.adopt,
            "revert": moving.revert,
            "migrate": moving.migrate,
            "export_index": lambda dataset, key: moving.export_index(dataset, key, "x.parquet"),
        }.items()
    },
    "migrate(new_brain_key)": (
        lambda g, v: moving.migrate(g.dataset, KEY, v),
        [True, 5, "", "no key"],
    ),
    "migrate(overwrite)": (lambda g, v: moving.migrate(g.dataset, KEY, "to", overwrite=v), NO_FLAG),
    "migrate(batch_size)": (
        lambda g, v: moving.migrate(g.dataset, KEY, "to", batch_size=v),
        NO_COUNT,
    ),
    "export_index(path)": (
        lambda g, v: moving.export_index(g.dataset, KEY, v),
        [None, True, 5, "", b"x", Path("/no/such/folder/x.parquet")],
    ),
    "export_index(fields)": (
        lambda g, v: moving.export_index(g.dataset, KEY, "x.parquet", fields=v),
        [True, 5, "number", ["no_such_field"], [5]],
    ),
    "import_index(path)": (
        lambda g, v: moving.import_index(v, g.dataset, "second"),
        [None, True, 5, "", b"x", "/no/such/file.parquet"],
    ),
    **{
        f"import_index({name})": (
            lambda g, v, name=name: moving.import_index(
                "x.parquet", g.dataset, "second", **{name: v}
            ),
            values,
        )
        for name, values in {
            "overwrite": NO_FLAG,
            "skip_unknown": NO_FLAG,
            "batch_size": NO_COUNT,
        }.items()
    },
    # The settings of a new index
    **{
        f"compute_similarity({name})": (
            lambda g, v, name=name: g.compute(**{name: v}),
            values,
        )
        for name, values in {
            "collection_name": [*NO_NAME, "1st", "a-b", "a" * 256],
            "metric": [True, None, "L2", ["cosine"]],
            "consistency_level": [True, None, "strong", ["Strong"]],
            "index_type": [True, 5, "", "TREE", ["HNSW"]],
            "index_params": [True, "M=16", [16], {"M": "16"}, {"M": True}, {"M": 16.5}, {5: 5}],
            "search_params": [True, "ef=16", {"ef": True}, {"ef": "16"}, {"k": 0}],
            "num_shards": [*NO_COUNT, 17],
            "replicas": NO_COUNT,
            "mmap": ["yes", 2, [True]],
            "partition_key": [True, 5, "number"],
            "num_partitions": [*NO_COUNT, 2000],
            "timeout": [True, 0, -1, "5", float("nan"), float("inf"), [5]],
            "id_field": NO_NAME,
            "vector_field": NO_NAME,
            "fields": [True, "number", b"number", [5], [""], ["no_such_field"], {"number": 1}],
            "deployment": [True, "local", ["server"]],
            "uri": [True, 5, ["x"], "ftp://host"],
            "db_name": [True, ["x"]],
            "secure": ["maybe", [True]],
            "patches_field": ["no_such_field", "number", "filepath", True, 5, ""],
            "embeddings_field": [True, 5],
        }.items()
    },
}


def test_an_unknown_parameter(given: Given) -> None:
    with pytest.raises(ValueError, match=r"'index_typ' .* did you mean 'index_type'\?") as caught:
        given.compute(index_typ="FLAT")
    one_line(caught.value)
    # Of a secret, only the name is shown
    with pytest.raises(ValueError, match="'token' must be a string, not bool"):
        given.compute(token=True)
    assert given.unchanged()


def explained(error: BaseException, value: Any) -> bool:
    """The message is one line that names a short value, or says what is wrong with a large one."""
    text = one_line(error)
    # Of an array, the numbers say nothing
    return len(text) > 20 and (not isinstance(value, (bool, int, float, str)) or str(value) in text)


@pytest.mark.parametrize("case", CASES)
def test_what_can_not_be_used_is_refused(given: Given, case: str) -> None:
    call, values = CASES[case]
    taken = []
    for value in values:
        if isinstance(value, str) and value == "other":
            value = given.other
        try:
            call(given, value)
        except ValueError as error:
            if not explained(error, value):
                taken.append((value, str(error)))
        except Exception as error:
            taken.append((value, repr(error)))
        else:
            taken.append((value, "accepted"))
        finally:
            given.index.clear_view()
    assert not taken
    assert given.unchanged()


@pytest.mark.parametrize(
    "values",
    [
        TWO.tolist(),
        TWO.astype(np.float16),
        TWO.astype(np.float64),
        (TWO * 100).astype(np.int8),
        (TWO * 100).astype(np.int64),
        TWO.astype(object),
        [*TWO],
        np.asfortranarray(TWO),
        pd.DataFrame(TWO),
        pd.DataFrame(TWO).astype("Float64"),
    ],
    ids=lambda values: f"{type(values).__name__}-{getattr(values, 'dtype', '')}",
)
def test_real_numbers_of_any_kind_are_stored_as_they_are(given: Given, values: Any) -> None:
    check_stored(given, values, values)


def test_tensors(given: Given) -> None:
    torch = pytest.importorskip("torch")
    for values in (
        torch.tensor(TWO),
        torch.tensor(TWO, requires_grad=True),
        torch.tensor(TWO).to(torch.bfloat16),
        torch.tensor(TWO).half(),
        [*torch.tensor(TWO)],
    ):
        check_stored(given, values, [[float(x) for x in row] for row in values])
    for values in (torch.tensor(TWO + 1j), torch.tensor(TWO > 0)):
        with pytest.raises(ValueError, match="embeddings"):
            given.add(values)


class Foreign:
    """An array of another library, as numpy sees it."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


class WithArray(Foreign):
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.values, dtype=dtype)


class WithInterface(Foreign):
    @property
    def __array_interface__(self) -> Any:
        return self.values.__array_interface__


class WithBuffer(Foreign):
    """Its rows are buffers."""

    def __iter__(self) -> Iterator[Any]:
        return map(memoryview, self.values)

    def __getitem__(self, item: int) -> Any:
        return memoryview(self.values[item])


class Tensor(WithArray):
    """Numpy may not read it before it is detached and on the processor, as with PyTorch's."""

    __module__ = "torch"
    dtype = "torch.bfloat16"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("can't convert a tensor that requires grad, on another device, to numpy")

    def detach(self) -> Any:
        return self

    cpu = detach

    def float(self) -> Any:
        plain = Foreign(np.float32(self.values))
        plain.numpy = lambda: plain.values  # type: ignore[attr-defined]
        return plain


@pytest.mark.parametrize("kind", [WithArray, WithInterface, WithBuffer, Tensor])
def test_arrays_of_other_libraries(given: Given, kind: type[Foreign]) -> None:
    check_stored(given, kind(TWO), TWO)
    if kind is not WithBuffer:
        check_stored(given, kind(np.float32(TWO)), TWO)
    for values, said in ((TWO + 1j, "imaginary"), (TWO > 0, "booleans")):
        if kind is not Tensor:
            with pytest.raises(ValueError, match=f"embeddings.*{said}"):
                given.add(kind(values))


def check_stored(given: Given, values: Any, as_lists: Any) -> None:
    """The index stores values, and searches with them, as the float32 numbers that they are."""
    index, ids = given.index, given.images.ids[:2]
    rows = as_lists.to_numpy() if isinstance(as_lists, pd.DataFrame) else as_lists
    expected = np.stack([np.asarray([float(x) for x in row], np.float32) for row in rows])
    found = list(index.search(values, k=COUNT, aggregation="min").sample_ids)
    distances = np.linalg.norm(given.images.matrix()[:, None] - expected, axis=2).min(axis=1)
    assert found == [given.images.ids[i] for i in np.argsort(distances, kind="stable")]
    try:
        index.add_to_index(values, ids)
        np.testing.assert_array_equal(index.get_embeddings(ids)[0], expected)
    finally:
        index.add_to_index(given.images.matrix(ids), ids)


@pytest.mark.parametrize(
    "as_ids",
    [list, tuple, np.array, iter, set, lambda ids: [ObjectId(i) for i in ids]],
    ids=["list", "tuple", "array", "iterator", "set", "ObjectId"],
)
def test_ids_of_any_kind(given: Given, as_ids: Any) -> None:
    index, ids = given.index, given.images.ids[:2]
    assert sorted(index.get_embeddings(as_ids(ids))[1]) == sorted(ids)
    index.remove_from_index(as_ids(ids))
    assert index.total_index_size == COUNT - 2
    listed = list(as_ids(ids))
    index.add_to_index(given.images.matrix([str(i) for i in listed]), as_ids(ids))
    for _id, vector in zip(*reversed(index.get_embeddings(ids)[:2]), strict=True):
        np.testing.assert_array_equal(vector, given.images.vectors[_id])
    nearest = index.search(as_ids(ids), k=COUNT, aggregation="min")
    assert set(nearest.sample_ids[:2]) == set(ids)


def test_one_object_id(given: Given) -> None:
    one = ObjectId(given.query)
    for found in (
        given.index.search(one, k=1).sample_ids,
        given.index.sort_by_similarity(one, k=1).values("id"),
        given.index.get_embeddings(one)[1],
        [r.sample_id for r in fiftyone_milvus.search_everywhere(one, k=1, brain_keys=KEY)],
    ):
        assert list(found) == [given.query]


@pytest.mark.parametrize("flag", [np.bool_(True), 1, np.int64(1)])
def test_switches_as_numbers_write_them(given: Given, flag: Any) -> None:
    least = given.index.search(given.query, k=1, reverse=True).sample_ids
    assert list(given.index.search(given.query, k=1, reverse=flag).sample_ids) == list(least)


def test_numpy_numbers_as_settings() -> None:
    config = MilvusSimilarityConfig(
        timeout=np.float32(5),
        index_type="HNSW",
        index_params={"M": np.int64(24)},
        search_params={"ef": np.int32(64), "k": np.uint8(5)},
        num_shards=np.int64(2),
        mmap=np.bool_(True),
    )
    assert (config.timeout, config.num_shards, config.mmap) == (5.0, 2, True)
    assert config.search_params == {"ef": 64, "k": 5}
    written = [config.timeout, config.num_shards, config.mmap, *config.index_params.values()]
    assert {type(value) for value in written} == {float, int, bool}
