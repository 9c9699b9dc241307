"""An index takes what a person has, says what it is, and shows what it found."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from PIL import Image

import fiftyone_milvus
from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import DimensionMismatchError, InvalidInputError
from fiftyone_milvus.index.asked import Text
from tests.support import oracle
from tests.support.indexes import index_images, one_line, vectors

MODEL = "contract-colours"
pytestmark = pytest.mark.parametrize("engine", ["embedded"], indirect=True)


@pytest.fixture
def found(colours: fo.Dataset, engine: Any) -> Iterator[Any]:
    """An index of 30 images."""
    index = fob.compute_similarity(
        colours, model=MODEL, metric="cosine", brain_key="c", backend="milvus", **engine.kwargs
    )
    yield index
    index.cleanup()


@pytest.fixture
def patches(colours: fo.Dataset, engine: Any) -> Iterator[Any]:
    """An index of their 60 halves."""
    index = fob.compute_similarity(
        colours,
        model=MODEL,
        patches_field="ground_truth",
        metric="cosine",
        brain_key="p",
        backend="milvus",
        **engine.kwargs,
    )
    yield index
    index.cleanup()


@pytest.fixture
def bare(colours: fo.Dataset, engine: Any) -> Iterator[Any]:
    """An index of the same embeddings that names no model."""
    colours.compute_embeddings(fo.zoo.load_zoo_model(MODEL), embeddings_field="vector")
    index = fob.compute_similarity(
        colours,
        embeddings="vector",
        metric="cosine",
        brain_key="b",
        backend="milvus",
        **engine.kwargs,
    )
    yield index
    index.cleanup()


def true(index: Any, *queries: np.ndarray) -> dict[str, float]:
    """Returns the distance of each row to the mean of vectors."""
    rows, samples, labels = index.get_embeddings()
    ids = samples if labels is None else labels
    values = oracle.distances("cosine", np.mean(queries, axis=0), rows)[0]
    return dict(zip(ids.tolist(), values.tolist(), strict=True))


def check(index: Any, query: Any, *vectors: np.ndarray) -> None:
    """A query finds what its vectors do, by every way to search."""
    results = index.search(query, k=5)
    oracle.check_ranking(results.ids, true(index, *vectors), 5, reported=results.distances)
    if images.is_path(query) and isinstance(query, str):
        return  # FiftyOne passes on what is typed in the App: only a Path is a path there
    view = index.sort_by_similarity(query, k=5)
    shown = view.values("id") if not index.config.patches_field else index._found and results.ids
    oracle.check_ranking(list(shown), true(index, *vectors), 5)


def stored(index: Any, *ids: str) -> np.ndarray:
    rows, samples, labels = index.get_embeddings()
    keys = (samples if labels is None else labels).tolist()
    return rows[[keys.index(i) for i in ids]]


def test_samples_views_and_images_are_queries(
    found: Any, colour_files: dict[str, list[str]], tmp_path: Path
) -> None:
    dataset, path = found._samples, colour_files["red"][3]
    sample = dataset[path]
    vector = stored(found, sample.id)
    check(found, sample, *vector)
    check(found, dataset.match(F("filepath") == path).first(), *vector)
    view = dataset.limit(3)
    check(found, view, *stored(found, *view.values("id")))
    check(found, [sample, view.first(), str(view.last().id)],
          *stored(found, sample.id, view.first().id, view.last().id))  # fmt: skip
    check(found, dataset.to_patches("ground_truth").first(), *stored(found, dataset.first().id))
    image = Image.open(path)
    pixels = np.asarray(image.convert("RGB"))
    gray = np.full((9, 9, 1), 77, np.uint8)
    model = found.get_model()
    for query in (path, Path(path), image, image.convert("RGBA"), pixels, Path(path).as_uri()):
        check(found, query, *vector)
    check(found, gray, model.embed(np.repeat(gray, 3, axis=2)))
    check(found, [pixels, colour_files["blue"][0]], *vector,
          *stored(found, dataset[colour_files["blue"][0]].id))  # fmt: skip
    check(found, [sample.id, "green", image], *vector, *vector, model.embed_prompt("green"))
    assert found.search(iter([image]), k=5).ids == found.search(image, k=5).ids
    check(found, [0.5] * 8, np.full(8, 0.5))
    away = found.search("red", k=4, negative=sample)
    expected = 2 * model.embed_prompt("red") - vector[0]
    oracle.check_ranking(away.ids, true(found, expected), 4)
    # The same through all datasets
    for query in (image, pixels, Path(path).as_uri()):
        everywhere = fiftyone_milvus.search_everywhere(query, 3, brain_keys=["c"])
        oracle.check_ranking([r.sample_id for r in everywhere], true(found, *vector), 3)


def test_labels_and_samples_are_queries_of_patches(patches: Any) -> None:
    dataset = patches._samples
    sample = dataset.limit(12).last()
    labels = sample.ground_truth.detections
    ids = [label.id for label in labels]
    check(patches, labels[1], *stored(patches, ids[1]))
    for query in (sample, labels, sample.ground_truth, dataset.select(sample.id)):
        check(patches, query, *stored(patches, *ids))
    check(patches, dataset.to_patches("ground_truth").limit(5),
          *stored(patches, *dataset.to_patches("ground_truth").limit(5).values("id")))  # fmt: skip


def test_an_image_at_an_address_is_read(found: Any, colour_files: dict[str, list[str]]) -> None:
    path = Path(colour_files["green"][2])
    handler = functools.partial(_Quiet, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            root = f"http://127.0.0.1:{server.server_port}"
            check(found, f"{root}/{path.name}", *stored(found, found._samples[str(path)].id))
            with pytest.raises(InvalidInputError, match="File not found; check the address"):
                found.search(f"{root}/nothing.png")
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def test_what_can_not_be_a_query_is_refused(
    found: Any, patches: Any, datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("red")
    other = datasets(1)
    dataset = found._samples
    for query, expected in (
        ("nowhere/red.png", "Can't read 'nowhere/red.png': No such file"),
        ("red.JPG", "Can't read 'red.JPG'"),
        (str(text), "can't be read as an image"),
        ("s3://bucket/red.png", "download the image"),
        ("http://127.0.0.1:9/red.png", "refused; check the address"),
        (np.zeros((4, 4, 3)), "dtype uint8"),
        (np.zeros((4, 4, 2), np.uint8), "expected an image"),
        (other, "is not the one of this index"),
        (dataset.first().ground_truth.detections[0], "use an index of patches"),
        (dataset.limit(0), "nothing to search by"),
        (dataset.to_patches("ground_truth"), "These are patches"),
        ({"red": 1}, "expected a sample, a view, a label, an ID, a text, an image"),
    ):
        with pytest.raises(InvalidInputError) as error:
            found.search(query)
        assert expected in one_line(error.value), query
    for arguments, expected in (
        ({"negative": "red", "aggregation": "min"}, "negative needs aggregation='mean'"),
        ({"negative": [0.0] * 3}, "3 dimensions"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            found.search("red", **arguments)


def test_the_name_of_a_file_is_no_text_without_a_word(
    found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red").write_text("")
    check(found, "red", found.get_model().embed_prompt("red"))
    assert "'red' is searched for as a text, although there is a file of that name" in caplog.text
    caplog.clear()
    found.search("red")
    assert len(caplog.records) == 1
    # What is typed in the App is no address that its server would read
    address = "http://127.0.0.1:9/red.png"
    expected = true(found, found.get_model().embed_prompt("red"))
    oracle.check_ranking(found.sort_by_similarity(address, k=5).values("id"), expected, 5)
    assert "index.search() takes it for an image" in caplog.text
    oracle.check_ranking(found.search(Text(address), k=5).ids, expected, 5)


def test_text_without_a_model_says_how_to_attach_one(
    bare: Any, colour_files: dict[str, list[str]], caplog: pytest.LogCaptureFixture, engine: Any
) -> None:
    for query in ("red", ["red"]):
        with pytest.raises(InvalidInputError) as error:
            bare.search(query)
        said = one_line(error.value)
        assert said.startswith("Index 'b' has no model, so it can't be searched by the text 'red'")
        assert "index.use_model()" in said
    with pytest.raises(InvalidInputError, match=r"no model to embed an image with.*use_model"):
        bare.search(Path(colour_files["red"][0]))
    with pytest.raises(ValueError, match="not found"):
        bare.use_model("no-such-model")
    for wrong in (3, fo.Sample("x.jpg")):
        with pytest.raises(InvalidInputError, match="Invalid model"):
            bare.use_model(wrong)
    assert bare.config.model is None

    bare.use_model(MODEL)
    assert "is not the one in the index" not in caplog.text
    check(bare, "red", bare.get_model().embed_prompt("red"))
    dataset = bare._samples
    again = dataset.load_brain_results("b", cache=False, **engine.kwargs)
    assert again is not bare
    assert (again.config.model, again.supports_prompts) == (MODEL, True)
    check(again, "blue", bare.get_model().embed_prompt("blue"))


def test_a_model_of_other_embeddings_is_refused_or_doubted(
    bare: Any, colours: fo.Dataset, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = type(bare.get_model() if bare.config.model else fo.zoo.load_zoo_model(MODEL))()
    bare.add_to_index(-np.ones((1, 8)), [colours.first().id])
    bare.use_model(model)
    assert "is not the one in the index (their cosine similarity is -" in caplog.text
    assert bare.config.model is None
    check(bare, "red", model.embed_prompt("red"))
    narrow = index_images(engine, 3, "cosine", dim=4)
    try:
        with pytest.raises(DimensionMismatchError, match="8 dimensions, but the index has 4"):
            narrow.index.use_model(MODEL)
        assert narrow.index.config.model is None
    finally:
        narrow.drop()


def test_an_index_says_what_it_is(
    found: Any, patches: Any, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = repr(found)
    for part in (
        "MilvusSimilarityIndex of samples",
        found._samples.name,
        "30, as many as there are samples",
        "cosine",
        f"{MODEL}, takes text",
        engine.kwargs["uri"],
        found.config.collection_name,
    ):
        assert part in said, said
    assert str(found) == said
    assert "60, as many as there are patches in 'ground_truth'" in repr(patches)
    found.remove_from_index(sample_ids=[found._samples.first().id])
    assert "29 for 30 samples; sync() brings it up to date" in repr(found)


def test_an_index_whose_milvus_is_away_does_not_wait(colours: fo.Dataset, engine: Any) -> None:
    config = fiftyone_milvus.MilvusSimilarityConfig(uri="http://127.0.0.1:9", collection_name="c")
    assert "Vectors:    unknown: " in repr(
        fiftyone_milvus.MilvusSimilarityIndex(colours, config, "away")
    )


def test_results_are_a_table_thumbnails_and_a_data_frame(
    found: Any, patches: Any, colour_files: dict[str, list[str]]
) -> None:
    results = found.search("red", k=12)
    paths = dict(zip(*found._samples.values(["id", "filepath"])))
    lines = repr(results).splitlines()
    assert lines[0].startswith("SearchResults(12 samples, distances ")
    assert lines[1].split() == ["distance", "sample_id", "filepath"]
    assert [line.split() for line in lines[2:12]] == [
        [str(at), f"{r.distance:.4g}", r.sample_id, paths[r.sample_id]]
        for at, r in enumerate(results[:10], 1)
    ]
    assert lines[12:] == ["... and 2 more"]
    frame = results.to_pandas()
    assert list(frame.columns) == ["distance", "sample_id", "filepath"]
    assert frame.sample_id.tolist() == results.sample_ids
    assert frame.filepath.tolist() == [paths[i] for i in results.sample_ids]
    assert results._repr_html_().count("data:image/jpeg;base64,") == 12
    nothing = found.search("red", k=3, max_distance=-1)
    assert len(nothing.to_pandas()) == 0
    assert "no samples" in nothing._repr_html_() + repr(nothing)

    of_patches = patches.search("red", k=30)
    assert list(of_patches.to_pandas().columns) == [
        "distance", "sample_id", "label_id", "filepath"
    ]  # fmt: skip
    page = of_patches._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 24
    assert "the first 24" in page
    first = re.findall(r"base64,([^\"]+)", page)[0]
    # Half of 12 x 12 pixels
    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (6, 12)


@pytest.mark.parametrize("how", ["add", "sync"])
def test_a_metric_by_default_is_doubted_once_where_lengths_differ(
    datasets: Any, engine: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = vectors(20)
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    doubt = "no metric was named"
    for rows, given, expected in (
        (data, {}, 1),
        (unit, {}, 0),
        (data, {"metric": "dotproduct"}, 0),
        (data, {"metric": "cosine"}, 0),
    ):
        caplog.clear()
        dataset = datasets(20)
        index = fob.compute_similarity(
            dataset, embeddings=False, brain_key="d", backend="milvus", **given, **engine.kwargs
        )
        try:
            for part in (slice(0, 10), slice(10, 20)):
                if how == "add":
                    index.add_to_index(rows[part], dataset.values("id")[part])
                else:
                    index.sync(dataset[part], embeddings=rows[part])
            assert caplog.text.count(doubt) == expected, given
            assert index.config.metric == given.get("metric", "dotproduct")
        finally:
            index.cleanup()


def test_duplicates_and_sync_say_one_line(
    found: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        for call, said in (
            (lambda: found.find_duplicates(fraction=0.5), "Found 15 near-duplicates of 30 samples"),
            (lambda: found.find_duplicates(thresh=1e-9), "Found "),
            (lambda: found.find_unique(4), "Found 4 unique of 30 samples, more than "),
        ):
            caplog.clear()
            call()
            (record,) = caplog.records
            assert record.getMessage().startswith(said)
        caplog.clear()
        capsys.readouterr()
        report = found.sync()
        print(report)
    assert caplog.records == []
    assert capsys.readouterr().out == f"{report}\n"
