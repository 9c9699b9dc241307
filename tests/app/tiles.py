"""Real photographs, cut into tiles that overlap, for the pictures of the documentation."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image
from skimage.feature import hog

KEY = "tiles"
_SIDE = 120
_STEP = 84


def photos() -> dict[str, np.ndarray]:
    """Returns the photographs that scikit-image and scikit-learn come with, by name."""
    found = {
        name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")
    }
    for name in ("china.jpg", "flower.jpg"):
        found[name.partition(".")[0]] = sklearn.datasets.load_sample_image(name)
    return found


def dataset(name: str, folder: Path) -> fo.Dataset:
    """Returns a new dataset of tiles; some are there twice, a few pixels apart."""
    rng = np.random.default_rng(51)
    tiles: list[tuple[str, np.ndarray]] = []
    for title, photo in photos().items():
        rows, columns = photo.shape[0] - _SIDE, photo.shape[1] - _SIDE
        for y in range(0, rows, _STEP):
            for x in range(0, columns, _STEP):
                tiles.append((title, photo[y : y + _SIDE, x : x + _SIDE]))
                for _ in range(int(rng.integers(0, 4) == 0) * int(rng.integers(1, 4))):
                    top, left = (
                        min(y + rng.integers(1, 5), rows),
                        min(x + rng.integers(1, 5), columns),
                    )
                    tiles.append((title, photo[top : top + _SIDE, left : left + _SIDE]))
    samples = []
    for number, (title, tile) in enumerate(tiles):
        path = str(folder / f"{title}-{number:03}.jpg")
        Image.fromarray(tile).save(path, quality=92)
        samples.append(fo.Sample(path, number=number, photo=fo.Classification(label=title)))
    found = fo.Dataset(name)
    found.add_samples(samples, progress=False)
    found.compute_metadata(progress=False)
    fob.compute_similarity(
        found,
        backend="milvus",
        brain_key=KEY,
        embeddings=np.stack([_embedded(tile) for _, tile in tiles]),
        metric="cosine",
        deployment="embedded",
    )
    return found


def _embedded(tile: np.ndarray) -> np.ndarray:
    """Returns edges and colors of a tile, as 540 floats."""
    small = Image.fromarray(tile).resize((64, 64))
    edges = hog(np.asarray(small.convert("L")), pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    colors = np.asarray(small.resize((8, 8)), dtype=np.float32).reshape(-1) / 255 - 0.5
    vector = np.concatenate([edges / np.linalg.norm(edges), colors / np.linalg.norm(colors)])
    return vector.astype(np.float32)
