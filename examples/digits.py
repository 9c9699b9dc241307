"""The data of the examples: scikit-learn's handwritten digits, with their pixels as embeddings."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def make_dataset(count: int = 500) -> tuple[fo.Dataset, np.ndarray]:
    """Returns a dataset of real scans and their ``count x 64`` embeddings."""
    scans, digits = load_digits(return_X_y=True)
    folder = Path(fo.config.default_dataset_dir) / "milvus-examples"
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(count):
        path = folder / f"{i}.png"
        pixels = np.uint8(255 - 15 * scans[i].reshape(8, 8))
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(path)
        label = fo.Classification(label=str(digits[i]))
        samples.append(fo.Sample(filepath=str(path), ground_truth=label))
    dataset = fo.Dataset()
    dataset.add_samples(samples)
    return dataset, scans[:count]
