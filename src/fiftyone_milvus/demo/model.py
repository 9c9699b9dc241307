"""A model that embeds digits and text into one space: ``model="digits-prompt"``.

It replaces CLIP where there is no torch and no internet. It is trained in two seconds on the first
two thirds of scikit-learn's digits. It is in FiftyOne's model zoo directory, so that every process
finds it by its name, the App's server too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.zoo.models as fozm
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fiftyone_milvus.demo import digits
from fiftyone_milvus.errors import InvalidInputError

NAME = "digits-prompt"

_SOURCE = "fiftyone-milvus"
_WEIGHTS = "digits-prompt.npz"
_SIDE = 8
_NUM_FEATURES = 1024
_GAMMA = 0.05
_PIXELS_WEIGHT = 0.6
_TURNS = (-12, -6, 0, 6, 12)


class DigitsModel(fom.Model, fom.EmbeddingsMixin, fom.PromptMixin):
    """Embeds images of a digit, and texts that name one, as unit vectors of 73 floats.

    Nine floats are for the digit (a discriminant analysis of random Fourier features), the others
    for its look. The vector of a text is the mean of the digits that it names.

    Args:
        weights: the arrays that :func:`train` returns
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._last: NDArray[np.float32] | None = None

    media_type = "image"
    preprocess = True
    has_embeddings = True
    can_embed_prompts = True
    ragged_batches = False
    transforms = None

    def predict(self, arg: ArrayLike) -> fo.Classification:
        """Returns the digit in one image.

        Args:
            arg: a ``height x width x 3`` uint8 array of dark ink on light paper, of any size
        """
        return self.predict_all([arg])[0]

    def predict_all(self, args: Any) -> list[fo.Classification]:
        """Returns the digits in several images; see :meth:`predict`."""
        self._last = embed_ink(np.stack([_ink(image) for image in args]), self._weights)
        nearest = (self._last @ self._weights["prototypes"].T).argmax(axis=1)
        return [fo.Classification(label=digits.WORDS[digit]) for digit in nearest]

    def get_embeddings(self) -> NDArray[np.float32]:
        """Returns the ``num_images x 73`` embeddings of the last prediction."""
        if self._last is None:
            raise InvalidInputError("There are no embeddings yet; call predict() first")
        return self._last

    def embed(self, arg: ArrayLike) -> NDArray[np.float32]:
        """Returns the ``73`` floats of one image; see :meth:`predict`."""
        return self.embed_all([arg])[0]

    def embed_all(self, args: Any) -> NDArray[np.float32]:
        """Returns the ``num_images x 73`` embeddings of several images."""
        self.predict_all(args)
        return self.get_embeddings()

    def embed_prompt(self, arg: str) -> NDArray[np.float32]:
        """Returns the ``73`` floats of a text like "a handwritten seven", or "7".

        Raises:
            InvalidInputError: if the text names no digit
        """
        named = _digits_in(arg)
        if not named:
            raise InvalidInputError(
                f"Prompt {arg!r} names no digit; use 0-9 or zero-nine, such as 'a handwritten "
                "seven'"
            )
        return _unit(self._weights["prototypes"][named].mean(axis=0))


FILES = ("__init__.py", "manifest.json", _WEIGHTS)
"""The files of the model."""


def folder() -> Path:
    """Returns the folder of the model in FiftyOne's zoo directory."""
    return Path(fo.config.model_zoo_dir) / _SOURCE


def forget() -> None:
    """Has FiftyOne read its list of models again, which it keeps."""
    getattr(fozm, "_invalidate_zoo_models_manifest", lambda: None)()


def install() -> Path:
    """Installs the model in FiftyOne's zoo directory and returns its folder there."""
    folder = Path(fo.config.model_zoo_dir) / _SOURCE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(
        "from fiftyone_milvus.demo.model import download_model, load_model  # noqa: F401\n"
    )
    manifest = {
        "name": _SOURCE,
        "models": [
            {
                "base_name": NAME,
                "base_filename": _WEIGHTS,
                "description": "Handwritten digits and their names in one space; needs no torch",
                "tags": ["embeddings", "zero-shot"],
                "date_added": "2026-11-22 00:00:00",
            }
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")
    download_model(NAME, folder / _WEIGHTS)
    forget()
    return folder


def download_model(model_name: str, model_path: str | Path) -> None:
    """Trains the weights; FiftyOne calls this if they are missing."""
    np.savez(model_path, **train())  # type: ignore[arg-type]


def load_model(model_name: str, model_path: str | Path, **kwargs: Any) -> DigitsModel:
    """Returns the model of the weights at a path; FiftyOne calls this."""
    with np.load(model_path, allow_pickle=False) as weights:
        return DigitsModel({name: weights[name] for name in weights.files})


def train() -> dict[str, NDArray[np.float32]]:
    """Returns the weights, trained on the first 1,200 scans, each rotated a little both ways."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    everything, labels = digits.scans()
    everything, labels = everything[: digits.NUM_TRAIN], labels[: digits.NUM_TRAIN]
    ink = np.stack([_ink(digits.draw(scan, angle=turn)) for turn in _TURNS for scan in everything])
    labels = np.tile(labels, len(_TURNS))

    random = np.random.default_rng(digits.SEED)
    weights = {
        "frequencies": random.normal(0, np.sqrt(2 * _GAMMA), (ink.shape[1], _NUM_FEATURES)),
        "phases": random.uniform(0, 2 * np.pi, _NUM_FEATURES),
        "mean_ink": ink.mean(axis=0),
    }
    features = np.cos(ink @ weights["frequencies"] + weights["phases"])
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-3).fit(features, labels)
    weights["mean_features"] = features.mean(axis=0)
    weights["discriminants"] = analysis.scalings_[:, : len(digits.WORDS) - 1]
    embeddings = embed_ink(ink, weights)
    weights["prototypes"] = _unit(
        np.stack([embeddings[labels == digit].mean(axis=0) for digit in range(10)])
    )
    return {name: array.astype(np.float32) for name, array in weights.items()}


def embed_ink(ink: NDArray[Any], weights: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Returns the ``n x 73`` embeddings of ``n x 64`` pixels of ink."""
    features = np.cos(ink @ weights["frequencies"] + weights["phases"])
    which = _unit((features - weights["mean_features"]) @ weights["discriminants"])
    looks = _unit(ink - weights["mean_ink"])
    return _unit(np.hstack([which, _PIXELS_WEIGHT * looks])).astype(np.float32)


def _ink(image: Any) -> NDArray[np.float32]:
    """Returns the 64 pixels of ink, in [0, 1], of an image of any size."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.asarray(image, dtype=np.uint8))
    small = image.convert("L").resize((_SIDE + 2, _SIDE + 2), Image.Resampling.BOX)
    gray = np.asarray(small, dtype=np.float32)[1:-1, 1:-1].ravel()
    return (gray.max() - gray) / max(float(np.ptp(gray)), 1.0)


def _digits_in(text: str) -> list[int]:
    found = []
    for word in re.findall(r"[a-z]+|[0-9]", text.lower()):
        for digit, name in enumerate(digits.WORDS):
            if word in (str(digit), name, name + "s", name + "es"):
                found.append(digit)
    return found


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)
