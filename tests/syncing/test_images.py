"""Images that are read ahead of the model give the embeddings that FiftyOne's own path gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.collections as foc
import fiftyone.core.models as fom
import fiftyone.utils.image as foui
import fiftyone.zoo as foz
import numpy as np
import pytest
from PIL import Image

from fiftyone_milvus.syncing import images
from fiftyone_milvus.syncing import reader as reading
from tests.support.indexes import KEY, unique


class Model(fom.Model, fom.EmbeddingsMixin):
    """Embeddings that depend on every pixel, and on the batch."""

    media_type = "image"
    has_embeddings = True
    ragged_batches = False
    transforms = None
    preprocess = True

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered = 0

    def __enter__(self) -> Model:
        self.entered += 1
        return self

    def embed(self, arg: Any) -> np.ndarray:
        return 2 * self.embed_all([arg])[0]

    def embed_all(self, args: Any) -> np.ndarray:
        self.batches.append(len(args))
        sums = [(image.sum(), image[0].std(), *image.shape) for image in args]
        return np.array(sums, dtype=np.float32) + np.float32(len(args) / 7)


class Prompted(Model, fom.PromptMixin):
    can_embed_prompts = True


class WithFields(fom.SamplesMixin, Model):
    def __init__(self) -> None:
        fom.SamplesMixin.__init__(self)
        Model.__init__(self)


class Ragged(Model):
    ragged_batches = True


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Images of several kinds, one of them with a name that is not ASCII."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    dataset = fo.Dataset(unique("images"))
    for i, (mode, suffix) in enumerate(
        [("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("RGB", "png"), ("I;16", "png")] * 5
    ):
        path = root / f"ü{i}.{suffix}"
        height, width = 5 + i, 9 - i % 3
        shape = (height, width) if mode in ("L", "I;16") else (height, width, len(mode))
        high = 65_000 if mode == "I;16" else 255
        pixels = random.integers(0, high, shape).astype(np.uint16 if high > 255 else np.uint8)
        image = Image.fromarray(pixels)
        exif = Image.Exif()
        exif[274] = 6  # turned
        image.save(path, **({"exif": exif} if suffix == "jpg" else {}))
        dataset.add_sample(fo.Sample(filepath=str(path), number=i))
    yield dataset
    dataset.delete()


@pytest.mark.parametrize("kind", [Model, Prompted, "contract-colours"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_the_same_bits(dataset: fo.Dataset, colours: Any, kind: Any, batch_size: Any) -> None:
    model = foz.load_zoo_model(kind) if isinstance(kind, str) else kind()
    if model.ragged_batches and batch_size == 7:
        assert not images.serves(dataset, model, batch_size)
        return
    view = dataset.sort_by("number", reverse=True)
    assert images.serves(view, model)
    found = images.embed(view, model, batch_size)
    batches = list(getattr(model, "batches", ()))
    theirs = view.compute_embeddings(model, batch_size=batch_size, progress=False)
    assert found.ids == view.values("id")
    mine = np.stack(found.vectors)
    assert (mine.dtype, mine.tobytes()) == (theirs.dtype, theirs.tobytes())
    if isinstance(model, Model):
        assert model.batches == batches * 2
        assert model.entered == 2


def test_torch_models(dataset: fo.Dataset) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    functional = pytest.importorskip(
        "torchvision.transforms.functional", reason="torchvision is not installed"
    )

    class Torch(Model, fom.TorchModelMixin):
        transforms = staticmethod(
            lambda image: functional.resize(functional.to_tensor(image), [8, 8], antialias=True)
        )

        def embed_all(self, args: Any) -> np.ndarray:
            assert not self.preprocess
            self.batches.append(len(args))
            kernel = torch.arange(192, dtype=torch.float32).reshape(192, 1).sin()
            return (args.reshape(len(args), -1) @ kernel + len(args)).numpy()

    model = Torch()
    view = dataset.match(fo.ViewField("number") % 5 != 4)
    assert images.serves(view, model)
    for batch_size in (None, 6):
        found = images.embed(view, model, batch_size, workers=0)
        theirs = view.compute_embeddings(
            model, batch_size=batch_size, num_workers=0, progress=False
        )
        assert np.stack(found.vectors).tobytes() == theirs.tobytes()
        assert found.ids == view.values("id")
    torn = Path(dataset.first().filepath).with_name("torn.png")
    torn.write_bytes(b"no image")
    bad = fo.Sample(filepath=str(torn))
    extra = fo.Dataset(unique("torn"))
    extra.add_samples([fo.Sample(filepath=view.first().filepath), bad])
    found = images.embed(extra, model, 2, workers=0)
    assert (found.ids, set(found.reasons)) == ([extra.first().id], {bad.id})
    with pytest.raises(Exception, match="cannot identify"):
        images.embed(extra, model, 2, workers=0, skip_failures=False)
    extra.delete()
    assert model.preprocess, "it is as it was"


def test_an_image_is_read_as_by_fiftyone(dataset: fo.Dataset, tmp_path: Path) -> None:
    """Also where each color is in memory, as the sum of floats depends on it."""
    random = np.random.default_rng(1)
    noise = Image.fromarray(random.integers(0, 255, (301, 457, 3), dtype=np.uint8))
    paths = dataset.values("filepath")
    for mode, suffix in [
        ("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("P", "gif"), ("1", "png"),
        ("RGB", "bmp"), ("RGB", "tif"), ("LA", "png"), ("RGB", "webp"),
    ]:  # fmt: skip
        paths.append(str(tmp_path / f"{mode}.{suffix}"))
        noise.convert(mode).save(paths[-1])
    data = Path(paths[25]).read_bytes()
    for name, content in [("half.jpg", data[: len(data) // 2]), ("bad.png", b"no image")]:
        paths.append(str(tmp_path / name))
        Path(paths[-1]).write_bytes(content)
    errors = 0
    for path in [*paths, str(tmp_path / "nothing.png"), str(tmp_path), None]:
        theirs, mine = (outcome(call, path) for call in (foui.read, reading.read))
        if isinstance(theirs, str):
            assert mine == theirs
            errors += 1
        else:
            np.testing.assert_array_equal(mine, theirs)
            form = [(a.dtype, a.shape, a.strides, a.flags.writeable) for a in (mine, theirs)]
            assert form[0] == form[1], path
    assert errors == 4


def outcome(call: Any, path: Any) -> Any:
    try:
        return call(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("batch_size", [None, 4])
def test_parts_are_read_ahead_and_stay_apart(dataset: fo.Dataset, batch_size: Any) -> None:
    ids, paths = dataset.values(["id", "filepath"])
    at = [(0, 0), (0, 6), (6, 6), (6, 6), (6, 7), (7, 25), (25, 25)]
    taken: list[int] = []

    def parts() -> Iterator[tuple[list[str], list[str]]]:
        for number, (start, stop) in enumerate(at):
            taken.append(number)
            yield ids[start:stop], paths[start:stop]

    model, alone = Model(), Model()
    for number, found in enumerate(images.embed_each(parts(), model, batch_size)):
        start, stop = at[number]
        assert found.ids == ids[start:stop]
        theirs = images.embed_files(found.ids, paths[start:stop], alone, batch_size)
        assert np.array_equal(found.vectors, theirs.vectors)
    assert number == taken[-1] == len(at) - 1
    assert model.batches == alone.batches
    assert list(images.embed_each(iter([]), model)) == []


def test_an_error_in_the_look_up_is_raised(dataset: fo.Dataset) -> None:
    def parts() -> Iterator[tuple[list[str], list[str]]]:
        yield tuple(dataset.limit(2).values(["id", "filepath"]))
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(images.embed_each(parts(), Model()))


@pytest.mark.parametrize("kind", [WithFields, Ragged])
def test_models_that_need_more_are_left_to_fiftyone(dataset: fo.Dataset, kind: Any) -> None:
    assert not images.serves(dataset, kind(), batch_size=2)


def test_other_media_are_left_to_fiftyone(dataset: fo.Dataset) -> None:
    model = Model()
    video = fo.Dataset(unique("video"))
    video.add_sample(fo.Sample(filepath="nothing.mp4"))
    assert not images.serves(video, model)
    assert not images.serves(dataset, lambda image: image)
    model.media_type = "video"
    assert not images.serves(dataset, model)
    video.delete()


def test_an_unreadable_image_costs_only_itself(dataset: fo.Dataset, tmp_path: Path) -> None:
    extra = fo.Dataset(unique("unreadable"))
    paths = [*dataset.values("filepath")[:5], str(tmp_path / "nothing.png")]
    extra.add_samples([fo.Sample(filepath=path) for path in paths])
    model = Model()
    found = images.embed(extra, model, 4)
    *good, bad = extra.values("id")
    assert found.ids == good
    assert list(found.reasons) == [bad]
    assert "nothing.png" in found.reasons[bad]
    assert model.batches == [4, 1], "only what shared a batch is embedded one by one"
    with pytest.raises(OSError, match=r"nothing\.png"):
        images.embed(extra, model, 4, skip_failures=False)
    extra.delete()


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "large.png")
    Image.new("RGB", (256, 256)).save(path)
    size, threads, limit = 3 * 256 * 256, 3, 5 * 3 * 256 * 256
    monkeypatch.setattr(reading, "_AHEAD_BYTES", limit)
    reader = reading.Reader([path] * 100, threads)
    most = 0
    with reader as found:
        for count, _ in enumerate(found, 1):
            with reader._changed:
                if count == 1:
                    # As far as it reads while nothing is taken
                    while reader._bytes < limit:
                        reader._changed.wait(0.01)
                most = max(most, reader._bytes)
    assert count == 100
    # One image of each thread may be on its way, and the chunk that is needed is always read
    assert limit <= most <= limit + (threads + reading._CHUNK) * size


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_a_sync_makes_no_samples(
    engine: Any, dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = fob.compute_similarity(
        dataset, model=Model(), embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("FiftyOne embeds")

    monkeypatch.setattr(foc.SampleCollection, "compute_embeddings", refuse)
    with pytest.raises(AssertionError, match="FiftyOne embeds"):
        index.sync(model=Ragged(), batch_size=2)
    assert index.sync(model=Model()).added == len(dataset)
    embeddings, sample_ids, _ = index.get_embeddings()
    truths = dict(zip(dataset.values("id"), images.embed(dataset, Model()).vectors))
    assert all(np.array_equal(truths[i], e) for i, e in zip(sample_ids, embeddings))
    index.cleanup()
    dataset.delete_brain_run(KEY)
