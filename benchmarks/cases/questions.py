"""Questions of several parts: the precision of their first results, next to that of single ones.

Digits are right if they are the same digit, and patches of photos if they are of the same photo.
Of each question, the first 25 results of one sample are judged, as a person would: up to three
right ones are liked, and up to three wrong ones are not. Then every form of the question is asked
again. What was judged counts for none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.vectors import Array
from benchmarks.world import World, make_dataset

K = 25
QUESTIONS = 300
JUDGED = 3
_SIDE = 48
_SEED = 61
_DIVERSE = (0.0, 0.3, 0.6)


def run(world: World) -> list[Table]:
    engine = world.engines[0]
    rows: list[list[str]] = []
    spread: list[list[str]] = []
    for title, (vectors, labels) in {"digits": _digits(), "photos": _photos()}.items():
        index, ids = _index(engine, vectors)
        wrong = _ask(index, ids, vectors, labels)
        names = list(wrong)
        total = len(wrong[names[0]])
        rows += [
            [f"{title}, {len(ids):,}", name, f"{np.mean(wrong[name]):.3f}", f"{total}"]
            for name in names
        ]
        spread += _spread(index, ids, vectors, labels, title)
        index.cleanup()
    return [
        Table("questions", ("images", "question", f"precision@{K}", "questions"), rows),
        Table(
            "diverse",
            ("images", "diverse", f"precision@{K}", "mean distance between the results"),
            spread,
        ),
    ]


def _index(engine: Any, vectors: Array) -> tuple[Any, list[str]]:
    import fiftyone.brain as fob

    dataset = make_dataset(len(vectors))
    index = fob.compute_similarity(
        dataset, embeddings=vectors, brain_key="questions", **engine.kwargs()
    )
    return index, dataset.values("id")


def _ask(index: Any, ids: list[str], vectors: Array, labels: Array) -> dict[str, list[float]]:
    """Returns the precision of each question, by its form."""
    label_of = dict(zip(ids, labels.tolist()))
    drawn = np.random.default_rng(_SEED).choice(len(ids), QUESTIONS, replace=False)
    found: dict[str, list[float]] = {}
    for at in drawn:
        one = ids[at]
        first = [i for i in index.search(like=one, k=K + 1).ids if i != one]
        right = [i for i in first if label_of[i] == label_of[one]][:JUDGED]
        wrong = [i for i in first if label_of[i] != label_of[one]][:JUDGED]
        if not right or not wrong:
            continue
        judged = {one, *right, *wrong}
        forms: dict[str, dict[str, Any]] = {
            "one sample": {"like": one},
            "and more like these": {"query": one, "like": right},
            "and less like those": {"query": one, "unlike": wrong},
            "and both": {"query": one, "like": right, "unlike": wrong},
            "and both, less by half": {
                "query": one, "like": right, "unlike": wrong, "weights": {"unlike": 0.5},
            },
        }  # fmt: skip
        for name, question in forms.items():
            all_found = index.search(**question, k=K + len(judged)).ids
            results = [i for i in all_found if i not in judged][:K]
            same = [label_of[i] == label_of[one] for i in results]
            found.setdefault(name, []).append(float(np.mean(same)))
    return found


def _spread(
    index: Any, ids: list[str], vectors: Array, labels: Array, title: str
) -> list[list[str]]:
    row_of = {_id: at for at, _id in enumerate(ids)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    drawn = np.random.default_rng(_SEED).choice(len(ids), QUESTIONS, replace=False)
    rows = []
    for diverse in _DIVERSE:
        right, apart = [], []
        for at in drawn:
            results = [row_of[i] for i in index.search(ids[at], k=K, diverse=diverse).ids]
            right.append(float(np.mean(labels[results] == labels[at])))
            between = 1 - unit[results] @ unit[results].T
            apart.append(float(between[np.triu_indices(len(results), 1)].mean()))
        rows.append([title, f"{diverse:g}", f"{np.mean(right):.3f}", f"{np.mean(apart):.3f}"])
    return rows


def _digits() -> tuple[Array, Array]:
    """Returns scikit-learn's scans of digits as pixels, and which digits they are."""
    from fiftyone_milvus.demo.digits import scans

    pixels, digits = scans()
    vectors = pixels.reshape(len(pixels), -1)
    return (vectors - vectors.mean(axis=0)).astype(np.float32), digits


def _photos() -> tuple[Array, Array]:
    """Returns colors and textures of patches of scikit-image's photos, and of which they are."""
    import skimage
    from skimage import color, io

    folder = Path(skimage.__file__).parent / "data"
    features, labels = [], []
    paths = [p for p in sorted(folder.iterdir()) if p.suffix in (".png", ".jpg", ".tiff")]
    for label, path in enumerate(paths):
        image = np.asarray(io.imread(path))
        if image.dtype != np.uint8 or min(image.shape[:2]) < 2 * _SIDE:
            continue
        image = color.gray2rgb(image) if image.ndim == 2 else image[..., :3]
        for y in range(0, image.shape[0] - _SIDE + 1, _SIDE):
            for x in range(0, image.shape[1] - _SIDE + 1, _SIDE):
                features.append(_features(image[y : y + _SIDE, x : x + _SIDE]))
                labels.append(label)
    vectors = np.array(features)
    vectors = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-6)
    return vectors.astype(np.float32), np.array(labels)


def _features(patch: Array) -> Array:
    """Returns mean and spread of the colors, and a histogram of the gradients."""
    values = patch / 255
    gray = values.mean(axis=2)
    dy, dx = np.gradient(gray)
    angles = np.histogram(
        np.arctan2(dy, dx), bins=8, range=(-np.pi, np.pi), weights=np.hypot(dx, dy)
    )[0]
    cells = values.reshape(2, _SIDE // 2, 2, _SIDE // 2, 3).mean(axis=(1, 3)).ravel()
    return np.concatenate([cells, values.std(axis=(0, 1)), angles / angles.size])
