"""FiftyOne's own similarity search of patches, groups and videos in the App, on each engine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_milvus.demo.model import NAME as MODEL
from tests.app.conftest import OpenApp, StartServer
from tests.app.digits import KEY, Scans
from tests.app.server import AppServer
from tests.conftest import Engine
from tests.support import oracle
from tests.support.indexes import credentials

pytestmark = pytest.mark.app

SHOWN = 25
SAMPLES = 40
FIELD = "objects"
BOXES = ([0.1, 0.1, 0.35, 0.8], [0.55, 0.1, 0.35, 0.8])


@pytest.fixture(scope="module")
def server(engine: Engine, start_server: StartServer) -> AppServer:
    return start_server(credentials(engine.kwargs))


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Iterator[Callable[[fo.Dataset], fo.Dataset]]:
    """Deletes a dataset, and its index, at the end of the test."""
    kept: list[fo.Dataset] = []

    def keep(dataset: fo.Dataset) -> fo.Dataset:
        kept.append(dataset)
        return dataset

    yield keep
    for dataset in kept:
        dataset.load_brain_results(KEY).cleanup()
        dataset.delete()


def check(scans: Scans, shown: list[int], query: int, count: int) -> None:
    """Fails unless the nearest of the first numbers are shown, nearest first."""
    oracle.check_ranking(shown, scans.distances(query, range(count)), SHOWN)


def test_patches_in_the_grid_and_a_label_in_a_sample(
    scans: Scans, engine: Engine, server: AppServer, open_app: OpenApp, keep: Callable
) -> None:
    dataset = keep(scans.dataset(f"patches-{engine.name}"))
    dataset.delete_samples(dataset.skip(SAMPLES))
    numbers = {}
    for i, sample in enumerate(dataset):
        labels = [
            fo.Detection(label=str(2 * i + j), bounding_box=box) for j, box in enumerate(BOXES)
        ]
        sample[FIELD] = fo.Detections(detections=labels)
        sample.save()
        numbers |= {label.id: int(label.label) for label in labels}
    fob.compute_similarity(
        dataset,
        backend="milvus",
        brain_key=KEY,
        embeddings={s.id: scans.vectors[2 * i : 2 * i + 2] for i, s in enumerate(dataset)},
        patches_field=FIELD,
        metric="cosine",
        **engine.kwargs,
    )
    app = open_app(server, dataset, numbers)
    check(scans, app.search_by_patch(FIELD, 4), 4, 2 * SAMPLES)
    # The right one of sample 3
    check(scans, app.search_by_label(3, (0.725, 0.5)), 7, 2 * SAMPLES)


def test_groups(
    scans: Scans, engine: Engine, server: AppServer, open_app: OpenApp, keep: Callable
) -> None:
    dataset = keep(fo.Dataset(f"groups-{engine.name}"))
    dataset.add_group_field("group", default="left")
    groups = [fo.Group() for _ in range(SAMPLES)]
    dataset.add_samples(
        [
            fo.Sample(scans.paths[n], group=groups[n // 2].element(side), number=n)
            for n in range(2 * SAMPLES)
            for side in (("left", "right")[n % 2],)
        ],
        progress=False,
    )
    both = dataset.select_group_slices(_allow_mixed=True)
    fob.compute_similarity(
        both,
        backend="milvus",
        brain_key=KEY,
        embeddings=scans.vectors[both.values("number")],
        model=MODEL,
        metric="cosine",
        **engine.kwargs,
    )
    app = open_app(server, dataset)
    # The grid shows the left ones, so they are what is searched; the index holds both
    oracle.check_ranking(
        app.search_by_image(6), scans.distances(6, range(0, 2 * SAMPLES, 2)), SHOWN
    )


def test_videos(
    scans: Scans,
    engine: Engine,
    server: AppServer,
    open_app: OpenApp,
    keep: Callable,
    tmp_path: Path,
) -> None:
    count = SHOWN + 1
    options = ["-frames:v", "2", "-r", "2", "-pix_fmt", "yuv420p"]
    for n in range(count):
        one = ["ffmpeg", "-loglevel", "error", "-loop", "1", "-i", scans.paths[n], *options]
        subprocess.run([*one, str(tmp_path / f"{n}.mp4")], check=True)
    dataset = keep(fo.Dataset(f"videos-{engine.name}"))
    dataset.add_samples(
        [fo.Sample(str(tmp_path / f"{n}.mp4"), number=n) for n in range(count)], progress=False
    )
    fob.compute_similarity(
        dataset,
        backend="milvus",
        brain_key=KEY,
        embeddings=scans.vectors[:count],
        model=MODEL,
        metric="cosine",
        **engine.kwargs,
    )
    app = open_app(server, dataset)
    check(scans, app.search_by_image(3), 3, count)
