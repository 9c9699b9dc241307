"""The demo's images: scikit-learn's handwritten digits, alone and on pages.

scikit-learn contains 1,797 scans of 8 x 8 pixels, so nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from sklearn.datasets import load_digits

IMAGES = "milvus-digits"
PAGES = "milvus-digit-pages"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEED = 51

# The scans are in the order of their writers: other people wrote the last third
NUM_TRAIN = 1200

_IMAGE_SIZE = 96
_PAGE_SIZE = (640, 480)
_NUM_PAGES = 120
_PAPER = (250, 247, 240)
_INK = (32, 38, 66)

# Enlarged pixels are blurred; a steep curve makes the sharp edge of a pen
_LEVELS = np.arange(256) / 255
_STROKES = np.where(_LEVELS > 0.1, 255 / (1 + np.exp(-14 * (_LEVELS - 0.45))), 0).round()
_STROKES = _STROKES.astype(np.uint8)


def scans() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the scans (1797 x 8 x 8, ink in [0, 1]) and their digits (1797)."""
    bunch = load_digits()
    return bunch.images / 16.0, bunch.target


def draw(scan: NDArray[np.float64], size: int = _IMAGE_SIZE, angle: float = 0.0) -> Image.Image:
    """Returns a scan as dark ink on paper, ``size`` pixels wide, rotated by ``angle`` degrees."""
    # A margin of one pixel, as digits reach the edge and may be rotated
    margined = np.pad(np.uint8(255 * scan), 1)
    ink = Image.fromarray(margined).resize((size, size), Image.Resampling.BICUBIC)
    if angle:
        ink = ink.rotate(angle, Image.Resampling.BICUBIC)
    strokes = Image.fromarray(_STROKES[np.asarray(ink)])
    return Image.composite(
        Image.new("RGB", ink.size, _INK), Image.new("RGB", ink.size, _PAPER), strokes
    )


def build_images(folder: Path) -> fo.Dataset:
    """Writes an image for each scan, and returns their dataset, ``milvus-digits``.

    A sample has its digit as ``ground_truth``, and the tag ``train`` or ``test``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i, (scan, digit) in enumerate(zip(*scans(), strict=True)):
        path = folder / f"{i:04}.png"
        draw(scan).save(path, compress_level=1)
        samples.append(
            fo.Sample(
                filepath=str(path),
                tags=["train" if i < NUM_TRAIN else "test"],
                metadata=fo.ImageMetadata.build_for(str(path)),
                ground_truth=fo.Classification(label=WORDS[digit]),
            )
        )
    return _replace(IMAGES, samples)


def build_pages(folder: Path) -> fo.Dataset:
    """Writes pages of six to ten scans, and returns their dataset, ``milvus-digit-pages``.

    Each digit on a page is a detection in ``ground_truth``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    everything, digits = scans()
    samples = []
    for i in range(_NUM_PAGES):
        page = Image.new("RGB", _PAGE_SIZE, _PAPER)
        detections = []
        for cell in random.permutation(12)[: random.integers(6, 11)]:
            at = int(random.integers(len(everything)))
            box = _place(page, everything[at], int(cell), random)
            detections.append(fo.Detection(label=WORDS[digits[at]], bounding_box=box, scan=at))
        path = folder / f"{i:03}.png"
        page.save(path, compress_level=1)
        samples.append(
            fo.Sample(
                filepath=str(path),
                metadata=fo.ImageMetadata.build_for(str(path)),
                ground_truth=fo.Detections(detections=detections),
            )
        )
    return _replace(PAGES, samples)


def _place(
    page: Image.Image, scan: NDArray[np.float64], cell: int, random: np.random.Generator
) -> list[float]:
    """Draws a scan in one of the page's 4 x 3 cells and returns its relative [x, y, w, h]."""
    width, height = page.size
    step = width // 4
    size = int(random.integers(64, 128))
    x = cell % 4 * step + int(random.integers(0, step - size + 1))
    y = cell // 4 * step + int(random.integers(0, step - size + 1))
    region = (x, y, x + size, y + size)
    drawing = draw(scan, size, float(random.uniform(-12, 12)))
    page.paste(ImageChops.darker(page.crop(region), drawing), region)
    return [x / width, y / height, size / width, size / height]


def _replace(name: str, samples: list[fo.Sample]) -> fo.Dataset:
    if fo.dataset_exists(name):
        old = fo.load_dataset(name)
        for key in old.list_brain_runs(type="similarity"):
            index = old.load_brain_results(key)
            if index is not None:  # None after an interrupted run
                index.cleanup()
        old.delete()
    dataset = fo.Dataset(name, persistent=True)
    dataset.add_samples(samples, progress=False)
    return dataset
