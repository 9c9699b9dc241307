"""The vectors that are indexed: made ones, and real ones that need no download."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def clustered(rows: int, dim: int, *, clusters: int = 200, seed: int = 51) -> tuple[Array, Array]:
    """Returns unit vectors around ``clusters`` centers, as float32, and the cluster of each."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(clusters, dim)).astype(np.float32)
    labels = rng.integers(0, clusters, rows)
    vectors = rng.normal(scale=0.6, size=(rows, dim)).astype(np.float32)
    vectors += centers[labels]
    return _unit(vectors), labels


def near(vectors: Array, count: int, *, seed: int = 52) -> Array:
    """Returns queries: some of the vectors, moved a little."""
    rng = np.random.default_rng(seed)
    chosen = vectors[rng.choice(len(vectors), count, replace=False)]
    scale = 0.3 * np.linalg.norm(chosen, axis=1).mean() / np.sqrt(chosen.shape[1])
    return (chosen + rng.normal(scale=scale, size=chosen.shape)).astype(np.float32)


def digits() -> tuple[Array, Array]:
    """Returns the pixels of scikit-learn's handwritten digits, shifted and rotated, and the digits.

    1,797 scans, 3 x 3 shifts and three rotations of each: 48,519 x 64.
    """
    from scipy import ndimage
    from sklearn.datasets import load_digits

    images, labels = load_digits().images, load_digits().target
    found = [
        ndimage.shift(turned, (0, dy, dx), order=1)
        for turned in (
            ndimage.rotate(images, angle, axes=(1, 2), reshape=False, order=1)
            for angle in (-12, 0, 12)
        )
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    vectors = np.concatenate(found).reshape(-1, 64).astype(np.float32)
    return _unit(vectors), np.tile(labels, len(found))


def patches() -> tuple[Array, Array]:
    """Returns 8 x 8 patches of scikit-learn's two photographs, and the photograph of each.

    Colors less the patch's mean; one patch every four pixels: some 33,000 x 192.
    """
    from sklearn.datasets import load_sample_images

    found, labels = [], []
    for number, image in enumerate(load_sample_images().images):
        windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8), axis=(0, 1))
        part = windows[::4, ::4].reshape(-1, 192).astype(np.float32)
        found.append(part)
        labels.append(np.full(len(part), number))
    vectors = np.concatenate(found)
    vectors -= vectors.mean(axis=1, keepdims=True)
    flat = np.linalg.norm(vectors, axis=1) < 1.0
    return _unit(vectors[~flat]), np.concatenate(labels)[~flat]


def nearest(vectors: Array, queries: Array, k: int, mask: Array | None = None) -> Array:
    """Returns the rows of the ``k`` most cosine-similar vectors of each query, exactly."""
    rows = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    scores = _unit(queries) @ vectors[rows].T
    return rows[np.argsort(-scores, axis=1, kind="stable")[:, :k]]


def recall(found: list[list[int]], truth: Array) -> float:
    """Returns the share of the true neighbors that were found."""
    hits = sum(len(set(f) & set(t.tolist())) for f, t in zip(found, truth, strict=True))
    return hits / truth.size


def _unit(vectors: Array) -> Array:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(norms == 0, 1, norms), dtype=np.float32)
