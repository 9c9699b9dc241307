"""Embeds images without a Sample object for each, while the next are read.

FiftyOne's ``compute_embeddings()`` makes a Sample for each image, reads the image, and only then
asks the model. Most of the time of a fast model is spent there. Here IDs and paths are read as
columns, and threads decode images while the model works. A Torch model keeps FiftyOne's data
loader. What the model is given is the same: the same pixels, in the same batches, in the same
order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.core.utils as fou

from fiftyone_milvus.syncing.embedding_errors import reason
from fiftyone_milvus.syncing.reader import Reader

fout = fou.lazy_import("fiftyone.utils.torch")

Files = tuple[list[str], list[str]]
"""The IDs of samples, and the path of the image of each."""


@dataclass
class Embedded:
    """What a model made of some images.

    Attributes:
        ids: the samples that have an embedding
        vectors: the embedding of each
        reasons: why the others have none, by sample ID
    """

    ids: list[str] = field(default_factory=list)
    vectors: list[Any] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def join(self, other: Embedded) -> None:
        """Adds those of other images."""
        self.ids += other.ids
        self.vectors += other.vectors
        self.reasons |= other.reasons


def serves(samples: Any, model: Any, batch_size: int | None = None) -> bool:
    """Whether a model needs nothing but the pixels of images, so that they can be read here.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection`
        model: what FiftyOne would apply to it
        batch_size (None): as for :func:`embed`

    Returns:
        False for videos and generated views; for models that choose how their data is loaded, by
        ``needs_fields`` or ``build_get_item()``, or can't take the batches that are asked for; and
        for those that are no :class:`fiftyone.core.models.Model` or have no embeddings
    """
    return are_images(samples) and takes_pixels(model, batch_size)


def are_images(samples: Any) -> bool:
    """Whether samples are whole images; the first half of :func:`serves`."""
    return bool(samples.media_type == "image" and not samples._is_generated)


def takes_pixels(model: Any, batch_size: int | None = None) -> bool:
    """Whether a model needs nothing but pixels; the second half of :func:`serves`."""
    torch = isinstance(model, fom.TorchModelMixin)
    batches = (batch_size or fo.config.default_batch_size or 1) > 1
    own_ways = (getattr(fom, "SamplesMixin", ()), getattr(fom, "SupportsGetItem", ()))
    return (
        isinstance(model, fom.Model)
        and not isinstance(model, own_ways)
        and model.media_type == "image"
        and getattr(model, "mode", "image") is not None
        and bool(model.has_embeddings)
        and not ((torch or batches) and model.ragged_batches)
    )


def embed(
    samples: Any,
    model: Any,
    batch_size: int | None = None,
    *,
    workers: int | None = None,
    skip_failures: bool = True,
) -> Embedded:
    """Embeds the images of some samples, as FiftyOne's ``compute_embeddings()`` does.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection` for which, with the model,
            :func:`serves` is true
        model: the :class:`fiftyone.core.models.Model`
        batch_size (None): how many images to embed at a time; by default what FiftyOne's
            configuration says, else one by one
        workers (None): how many threads read, or for a Torch model, processes of its data loader.
            By default, one thread more than there are processors, or what FiftyOne recommends
        skip_failures (True): whether to continue after an image that can't be read or embedded. If
            a batch fails, its images are embedded one by one
    """
    ids, paths = samples.values(["id", "filepath"])
    return embed_files(ids, paths, model, batch_size, workers=workers, skip_failures=skip_failures)


def embed_files(
    ids: list[str],
    paths: list[str],
    model: Any,
    batch_size: int | None = None,
    *,
    workers: int | None = None,
    skip_failures: bool = True,
) -> Embedded:
    """Embeds images without FiftyOne's database; otherwise as :func:`embed`.

    Args:
        ids: of the samples
        paths: of the image of each
        model: a model of which :func:`takes_pixels` is true
        batch_size (None): as for :func:`embed`
        workers (None): likewise
        skip_failures (True): likewise
    """
    (found,) = embed_each(
        iter([(ids, paths)]), model, batch_size, workers=workers, skip_failures=skip_failures
    )
    return found


def embed_each(
    parts: Iterator[Files],
    model: Any,
    batch_size: int | None = None,
    *,
    workers: int | None = None,
    skip_failures: bool = True,
) -> Iterator[Embedded]:
    """Embeds images part by part, and looks up and reads the next ones at the same time.

    Args:
        parts: the IDs and paths of each part, which are taken in another thread, up to two before
            the part that is embedded is done
        model: as for :func:`embed_files`
        batch_size (None): likewise; a batch ends with its part
        workers (None): likewise
        skip_failures (True): likewise
    """
    batch_size = batch_size or fo.config.default_batch_size
    how = _How(model, batch_size, workers, skip_failures)
    if how.torch:
        for ids, paths in parts:
            with how.ready(), _loaded(how, paths) as batches:
                found = _embed(how, ids, paths, batches)
            yield found
        return
    waiting: deque[Files] = deque()

    def all_paths() -> Iterator[str]:
        for part in _ahead(parts):
            waiting.append(part)
            yield from part[1]

    with Reader(all_paths(), workers) as reader:
        while True:
            # A part is known as soon as its first image is there, or none follows
            first = list(islice(reader, 1))
            while waiting and not waiting[0][1]:
                waiting.popleft()
                yield Embedded()
            if not first:
                return
            ids, paths = waiting.popleft()
            images = chain(first, islice(reader, len(paths) - 1))
            with how.ready():
                found = _embed(how, ids, paths, _batches(images, how.size))
            yield found


@dataclass(frozen=True)
class _How:
    model: Any
    batch_size: int | None
    workers: int | None
    skip_failures: bool

    @property
    def torch(self) -> bool:
        return isinstance(self.model, fom.TorchModelMixin)

    @property
    def size(self) -> int:
        return self.batch_size or 1

    @contextmanager
    def ready(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.torch:
                stack.enter_context(fou.SetAttributes(self.model, preprocess=False))
            stack.enter_context(self.model)
            yield


def _ahead(parts: Iterator[Files]) -> Iterator[Files]:
    """Yields parts, each of which was taken in a thread while the one before was used."""
    found: SimpleQueue[Any] = SimpleQueue()
    needed, over = threading.Semaphore(), threading.Event()

    def take() -> None:
        try:
            while needed.acquire() and not over.is_set():
                found.put(next(parts, None))
        except BaseException as error:
            found.put(error)

    # A daemon: who interrupts does not wait for FiftyOne's database
    threading.Thread(target=take, name="fiftyone-milvus-paths", daemon=True).start()
    try:
        while (part := found.get()) is not None:
            if isinstance(part, BaseException):
                raise part
            needed.release()
            yield part
    finally:
        over.set()
        needed.release()


def _embed(how: _How, ids: list[str], paths: list[str], batches: Iterator[Any]) -> Embedded:
    """Embeds the batches of a part. If one fails, embeds its images one by one."""
    found = Embedded()
    for start in range(0, len(ids), how.size):
        part = slice(start, start + how.size)
        try:
            # A batch is not kept: large images need the memory of those before
            vectors = _apply(how, next(batches))
            if len(vectors) != len(ids[part]):
                raise ValueError(f"{len(vectors)} embeddings of {len(ids[part])} images")
        except Exception as error:
            if not how.skip_failures:
                raise
            if len(ids[part]) == 1:
                found.reasons[ids[start]] = reason(error)
            else:
                each = replace(how, batch_size=1)
                with (_loaded if how.torch else _read)(each, paths[part]) as alone:
                    found.join(_embed(each, ids[part], paths[part], alone))
        else:
            found.join(Embedded(ids[part], vectors))
    return found


def _apply(how: _How, batch: Any) -> list[Any]:
    if isinstance(batch, Exception):
        raise batch
    if how.batch_size is None and not how.torch:
        return [how.model.embed(batch[0])]
    return list(how.model.embed_all(batch))


@contextmanager
def _loaded(how: _How, paths: list[str]) -> Iterator[Iterator[Any]]:
    """Yields the batches of FiftyOne's data loader for a Torch model."""
    from torch.utils.data import DataLoader

    model = how.model
    collate = model.collate_fn if model.has_collate_fn else None
    dataset = fout.TorchImageDataset(
        image_paths=paths,
        transform=model.transforms,
        force_rgb=True,
        skip_failures=how.skip_failures,
    )
    loader = DataLoader(
        dataset,
        batch_size=how.size,
        num_workers=fout.recommend_num_workers(how.workers),
        collate_fn=fom.ErrorHandlingCollate(
            how.skip_failures, ragged_batches=False, use_numpy=False, user_collate_fn=collate
        ),
    )
    yield iter(loader)


@contextmanager
def _read(how: _How, paths: list[str]) -> Iterator[Iterator[Any]]:
    with Reader(paths, how.workers) as images:
        yield _batches(images, how.size)


def _batches(images: Iterator[Any], size: int) -> Iterator[Any]:
    """Returns batches of images; in place of one that has an unreadable image, why."""

    def batch() -> Any:
        found = list(islice(images, size))
        errors = (image for image in found if isinstance(image, Exception))
        return next(errors, found)

    # A generator would keep each batch until the next one is complete
    return iter(batch, [])
