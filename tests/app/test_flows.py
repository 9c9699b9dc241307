"""FiftyOne's own similarity search in the App; ``test_server`` has what a server may change."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from PIL import Image

from fiftyone_milvus.demo.model import NAME as MODEL
from tests.app.conftest import OpenApp
from tests.app.digits import COUNT, KEY, Scans
from tests.app.page import AppPage
from tests.app.search_form import SearchForm
from tests.app.server import AppServer
from tests.conftest import Engine
from tests.support import oracle
from tests.support.once import one_engine

pytestmark = [pytest.mark.app, one_engine]

TEXT = "a handwritten seven"
OTHER = "by_length"


@pytest.fixture(scope="module")
def dataset(scans: Scans, engine: Engine) -> Iterator[fo.Dataset]:
    """Two indexes: of images by cosine, and by Euclidean distance of other vectors."""
    dataset = scans.dataset(f"flows-{engine.name}")
    indexes = [
        scans.index(dataset, **engine.kwargs),
        fob.compute_similarity(
            dataset,
            backend="milvus",
            brain_key=OTHER,
            embeddings=other(scans),
            metric="euclidean",
            **engine.kwargs,
        ),
    ]
    yield dataset
    for index in indexes:
        index.cleanup()
    dataset.delete()


@pytest.fixture(scope="module")
def app(dataset: fo.Dataset, engine_server: AppServer, open_app: OpenApp) -> AppPage:
    return open_app(engine_server, dataset)


@pytest.fixture(scope="module")
def form(app: AppPage) -> SearchForm:
    return SearchForm(app)


def other(scans: Scans) -> np.ndarray:
    """Returns vectors that rank otherwise than the model's: their lengths tell most."""
    return scans.vectors[:, ::-1] * (1 + np.arange(COUNT)[:, None] % 17).astype(np.float32)


def true(scans: Scans, query: np.ndarray) -> dict[int, float]:
    return dict(enumerate(oracle.distances("cosine", query, scans.vectors)[0].tolist()))


def test_several_images_and_a_name(app: AppPage, form: SearchForm, scans: Scans) -> None:
    app.select(2, 4)
    found = form.search(index=KEY, k=12, name="two and four")
    oracle.check_ranking(found, true(scans, scans.vectors[[2, 4]].mean(axis=0)), 12)
    app.clear()


def test_negatives(app: AppPage, form: SearchForm, scans: Scans) -> None:
    app.select(3)
    app.select(5, negative=True)
    found = form.search(index=KEY)
    oracle.check_ranking(found, true(scans, 2 * scans.vectors[3] - scans.vectors[5]), 10)
    app.clear()


def test_another_index(app: AppPage, form: SearchForm, scans: Scans) -> None:
    app.select(4)
    found = form.search(index=OTHER, metric="euclidean")
    vectors = other(scans)
    distances = oracle.distances("euclidean", vectors[4], vectors)[0]
    oracle.check_ranking(found, dict(enumerate(distances.tolist())), 10)
    app.clear()


def test_least_similar_with_distances(
    form: SearchForm, app: AppPage, dataset: fo.Dataset, scans: Scans
) -> None:
    found = form.search("Text", index=KEY, text=TEXT, reverse=True, k=9, dist_field="far")
    distances = scans.distances(TEXT)
    oracle.check_ranking(found, distances, 9, reverse=True)
    dataset.reload()
    stored = dict(zip(*dataset.exists("far").values(["number", "far"]), strict=True))
    assert stored == pytest.approx({n: distances[n] for n in found}, abs=1e-5)
    app.clear()


def test_an_uploaded_image(
    form: SearchForm, app: AppPage, scans: Scans, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pixels = np.asarray(Image.open(scans.paths[8]))[::-1]
    path = tmp_path_factory.mktemp("upload") / "turned.png"
    Image.fromarray(pixels).save(path)
    found = form.search("Upload", index=KEY, image=path)
    oracle.check_ranking(found, true(scans, scans.model.embed(pixels)), 10)
    app.clear()


def test_in_a_view(app: AppPage, form: SearchForm, scans: Scans) -> None:
    among = form.search("Text", index=KEY, text="a handwritten one", k=40)
    # What is far from the view's samples must be found among them
    found = form.search("Text", index=KEY, text=TEXT, view=True, k=8)
    oracle.check_ranking(found, scans.distances(TEXT, among), 8)
    app.clear()


def test_while_python_searches_and_writes(
    app: AppPage, form: SearchForm, dataset: fo.Dataset, scans: Scans
) -> None:
    index = dataset.load_brain_results(KEY)
    ids = dict(zip(*dataset.values(["number", "id"]), strict=True))
    gone = sorted(scans.distances(TEXT), key=scans.distances(TEXT).__getitem__)[:3]
    index.remove_from_index(sample_ids=[ids[n] for n in gone])
    found = form.search("Text", index=KEY, text=TEXT)
    oracle.check_ranking(found, scans.distances(TEXT, {*range(COUNT)} - {*gone}), 10)
    index.add_to_index(scans.vectors[gone], [ids[n] for n in gone])
    assert index.config.model == MODEL
    found = form.search("Text", index=KEY, text=TEXT)
    oracle.check_ranking(found, scans.distances(TEXT), 10)
    app.clear()
