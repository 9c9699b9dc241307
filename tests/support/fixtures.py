"""Indexes that tests share. Whatever is shared by a session is only read; writers get their own.

FiftyOne is imported by the fixtures that need it: it takes seconds, and many tests need none.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)
from tests.conftest import Engine
from tests.support import oracle

if TYPE_CHECKING:
    import fiftyone as fo

    from tests.support.indexes import Indexed

IMAGES = 300
PAGES = 80


@pytest.fixture(scope="session", params=oracle.METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def _shared(engine: Engine) -> Iterator[Callable[[str, str], Indexed]]:
    from tests.support.indexes import index_images, index_patches

    made: dict[tuple[str, str], Indexed] = {}
    builders = {
        "images": lambda metric: index_images(engine, IMAGES, metric),
        "patches": lambda metric: index_patches(engine, PAGES, metric),
    }

    def get(what: str, metric: str) -> Indexed:
        if (what, metric) not in made:
            made[what, metric] = builders[what](metric)
        return made[what, metric]

    yield get
    for indexed in made.values():
        indexed.drop()


@pytest.fixture
def images(_shared: Callable[[str, str], Indexed], metric: str) -> Iterator[Indexed]:
    """300 indexed samples, one index per metric; read only, without a view at the start."""
    indexed = _shared("images", metric)
    indexed.index.clear_view()
    yield indexed
    indexed.index.clear_view()


@pytest.fixture
def patches(_shared: Callable[[str, str], Indexed], metric: str) -> Iterator[Indexed]:
    """The detections of 80 samples, one index per metric; read only."""
    indexed = _shared("patches", metric)
    indexed.index.clear_view()
    yield indexed
    indexed.index.clear_view()


@pytest.fixture
def cosine_images(_shared: Callable[[str, str], Indexed]) -> Iterator[Indexed]:
    """The images under cosine, for what does not depend on the metric; read only."""
    indexed = _shared("images", "cosine")
    indexed.index.clear_view()
    yield indexed
    indexed.index.clear_view()


@pytest.fixture
def cosine_patches(_shared: Callable[[str, str], Indexed]) -> Iterator[Indexed]:
    """The patches under cosine, for what does not depend on the metric; read only."""
    indexed = _shared("patches", "cosine")
    indexed.index.clear_view()
    yield indexed
    indexed.index.clear_view()


@pytest.fixture
def dropped() -> Iterator[list[Indexed]]:
    """A list: indexes that a test puts in are cleaned up with their datasets afterwards."""
    made: list[Indexed] = []
    yield made
    for indexed in made:
        indexed.drop()


@pytest.fixture
def datasets() -> Iterator[Callable[..., fo.Dataset]]:
    """Makes image datasets that go away after the test."""
    from tests.support.indexes import image_dataset

    made: list[fo.Dataset] = []

    def make(count: int, name: str | None = None) -> fo.Dataset:
        made.append(image_dataset(count, name))
        return made[-1]

    yield make
    for dataset in made:
        if not dataset.deleted:
            dataset.delete()


@pytest.fixture
def finished() -> Iterator[Callable[[fo.Dataset], fo.Dataset]]:
    """Cleans up datasets with all their indexes that are loaded."""
    from fiftyone_milvus.index import MilvusSimilarityIndex

    made: list[fo.Dataset] = []

    def add(dataset: fo.Dataset) -> fo.Dataset:
        made.append(dataset)
        return dataset

    yield add
    for dataset in made:
        for key in dataset.list_brain_runs():
            index = dataset._brain_cache.get(key)
            if isinstance(index, MilvusSimilarityIndex):
                index.cleanup()
        dataset.delete()


_ZOO_MODEL = '''
"""A model of a few lines: colours as embeddings, and their names as prompts."""

import fiftyone.core.models as fom
import numpy as np

PROMPTS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourModel(fom.Model, fom.EmbeddingsMixin, fom.PromptMixin):
    def __init__(self):
        self._last = None

    @property
    def media_type(self):
        return "image"

    @property
    def ragged_batches(self):
        return True

    @property
    def transforms(self):
        return None

    @property
    def preprocess(self):
        return False

    @preprocess.setter
    def preprocess(self, value):
        pass

    @property
    def has_embeddings(self):
        return True

    @property
    def can_embed_prompts(self):
        return True

    def _colour(self, rgb):
        rgb = np.asarray(rgb, dtype=np.float64) / 255.0
        return np.concatenate([rgb, rgb**2, [0.1, 0.1]]).astype(np.float32)

    def predict(self, image):
        self._last = self._colour(np.asarray(image)[..., :3].reshape(-1, 3).mean(axis=0))

    def get_embeddings(self):
        return self._last[np.newaxis, :]

    def embed(self, image):
        self.predict(image)
        return self._last

    def embed_all(self, images):
        return np.stack([self.embed(image) for image in images])

    def embed_prompt(self, prompt):
        named = [rgb for name, rgb in PROMPTS.items() if name in prompt]
        return self._colour(np.mean(named or [(90, 90, 90)], axis=0))

    def embed_prompts(self, prompts):
        return np.stack([self.embed_prompt(prompt) for prompt in prompts])


def download_model(model_name, model_path):
    raise AssertionError("nothing to download")


def load_model(model_name, model_path, **kwargs):
    return ColourModel()
'''


@pytest.fixture(scope="module")
def model_zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model zoo folder that knows the model ``contract-colours``, in this process too.

    Pass ``{"FIFTYONE_MODEL_ZOO_DIR": str(model_zoo)}`` to other processes.
    """
    import fiftyone as fo
    import fiftyone.zoo.models as fozm

    root = tmp_path_factory.mktemp("zoo")
    source = root / "contract"
    source.mkdir()
    (source / "__init__.py").write_text(textwrap.dedent(_ZOO_MODEL))
    (source / "weights.bin").write_bytes(b"none")
    entry = {
        "base_name": "contract-colours",
        "base_filename": "weights.bin",
        "version": None,
        "description": "colours and their names",
        "tags": [],
    }
    (source / "manifest.json").write_text(json.dumps({"name": "contract", "models": [entry]}))
    # Older ones read it each time
    forget = getattr(fozm, "_invalidate_zoo_models_manifest", lambda: None)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(fo.config, "model_zoo_dir", str(root))
        forget()
        yield root
    forget()


@pytest.fixture(scope="session")
def colour_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Paths of small real images: ten of each colour, each of a shade of its own."""
    root = tmp_path_factory.mktemp("colours")
    tints = {"red": (1, 0.1, 0.1), "green": (0.1, 1, 0.1), "blue": (0.1, 0.1, 1)}
    files: dict[str, list[str]] = {}
    for name, tint in tints.items():
        for i in range(10):
            path = root / f"{name}-{i}.png"
            colour = tuple(int(t * (255 - 6 * i)) + 3 * i % 7 for t in tint)
            Image.new("RGB", (12, 12), colour).save(path)
            files.setdefault(name, []).append(str(path))
    return files


@pytest.fixture
def colours(colour_files: dict[str, list[str]], model_zoo: Path) -> Iterator[fo.Dataset]:
    """30 real images with a ``colour`` and a detection around each half."""
    import fiftyone as fo

    from tests.support.indexes import unique

    dataset = fo.Dataset(unique("colours"))
    dataset.add_samples(
        [
            fo.Sample(
                filepath=path,
                colour=name,
                ground_truth=fo.Detections(
                    detections=[
                        fo.Detection(label=name, bounding_box=[0.0, 0.0, 0.5, 1.0]),
                        fo.Detection(label=name, bounding_box=[0.5, 0.0, 0.5, 1.0]),
                    ]
                ),
            )
            for name, paths in colour_files.items()
            for path in paths
        ]
    )
    yield dataset
    if not dataset.deleted:
        dataset.delete()
