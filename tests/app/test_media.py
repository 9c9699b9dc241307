"""Similarity search of patches, groups and videos in the App: FiftyOne's own, and the plugin's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import installation
from tests.app.conftest import OpenApp
from tests.app.digits import KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.page import AppPage
from tests.app.server import AppServer
from tests.conftest import Engine
from tests.support import oracle
from tests.support.once import one_engine

pytestmark = [pytest.mark.app, one_engine]

SHOWN = 25
TEXT = "a handwritten seven"
SAMPLES = 40
FIELD = "objects"
BOXES = ([0.1, 0.1, 0.35, 0.8], [0.55, 0.1, 0.35, 0.8])


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


@pytest.fixture(autouse=True, scope="module")
def _plugin() -> None:
    installation.install()


def check_panel(app: AppPage, scans: Scans, kind: str, numbers: range) -> None:
    """Searches by text with a button of the Milvus panel; fails unless the nearest are shown."""
    panel = MilvusPanelPage(app)
    panel.act(KEY, "Search")
    panel.field("Text").last.fill(TEXT)
    panel.execute()
    panel.told(f"{SHOWN} {kind}")
    # FiftyOne's own panel is where it would be, so it covers the grid
    app.tab.get_by_text("Samples", exact=True).first.click()
    true = scans.distances(TEXT, numbers)
    oracle.check_ranking(app.numbers(sorted(true, key=true.__getitem__)[:SHOWN]), true, SHOWN)


def test_patches_in_the_grid_and_a_label_in_a_sample(
    scans: Scans, engine: Engine, engine_server: AppServer, open_app: OpenApp, keep: Callable
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
    app = open_app(engine_server, dataset, numbers)
    check(scans, app.search_by_patch(FIELD, 4), 4, 2 * SAMPLES)
    # The right one of sample 3
    check(scans, app.search_by_label(3, (0.725, 0.5)), 7, 2 * SAMPLES)


def test_groups(
    scans: Scans, engine: Engine, engine_server: AppServer, open_app: OpenApp, keep: Callable
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
    app = open_app(engine_server, dataset)
    # The grid shows the left ones, so they are what is searched; the index holds both
    oracle.check_ranking(
        app.search_by_image(6), scans.distances(6, range(0, 2 * SAMPLES, 2)), SHOWN
    )
    app.clear()
    check_panel(app, scans, "samples", range(0, 2 * SAMPLES, 2))


def write_video(image: str, path: Path) -> fo.VideoMetadata:
    """Writes a still image as a video; returns what FiftyOne would ask ``ffprobe`` of it.

    OpenCV comes with FiftyOne, and ``ffmpeg`` does not.
    """
    pixels = cv2.imread(image)
    height, width = pixels.shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"vp09"), 2, (width, height))
    if not video.isOpened():
        pytest.skip("this OpenCV writes no VP9")
    for _ in range(2):
        video.write(pixels)
    video.release()
    return fo.VideoMetadata(
        frame_width=width, frame_height=height, frame_rate=2, total_frame_count=2, duration=1
    )


def test_videos(
    scans: Scans,
    engine: Engine,
    engine_server: AppServer,
    open_app: OpenApp,
    keep: Callable,
    tmp_path: Path,
) -> None:
    count = SHOWN + 1
    metadata = [write_video(scans.paths[n], tmp_path / f"{n}.mp4") for n in range(count)]
    dataset = keep(fo.Dataset(f"videos-{engine.name}"))
    dataset.add_samples(
        [
            fo.Sample(str(tmp_path / f"{n}.mp4"), number=n, metadata=metadata[n])
            for n in range(count)
        ],
        progress=False,
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
    app = open_app(engine_server, dataset)
    check(scans, app.search_by_image(3), 3, count)
    app.clear()
    check_panel(app, scans, "samples", range(count))
