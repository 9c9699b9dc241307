"""Reads images ahead of the model that embeds them, without a Sample object for each.

FiftyOne's ``compute_embeddings()`` makes a Sample for each image, reads the image, and only then
asks the model. Most of the time of a fast model is spent there. Here IDs and paths are read as
columns, and threads decode images while the model works. A Torch model keeps FiftyOne's data
loader. What the model is given is the same: the same pixels, in the same batches, in the same
order.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.core.utils as fou
import fiftyone.utils.image as foui

from fiftyone_milvus.syncing.embedding_errors import reason

fout = fou.lazy_import("fiftyone.utils.torch")

_AHEAD_BYTES = 64 << 20
"""How many bytes of images may wait for the model before reading pauses."""

_CHUNK = 16
"""The most images that a thread reads in one turn, as handing over each of them costs time."""

_CHUNK_BYTES = 1 << 20
_MOST_CHUNKS = 32


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
    batch_size = batch_size or fo.config.default_batch_size
    with ExitStack() as stack:
        if isinstance(model, fom.TorchModelMixin):
            stack.enter_context(fou.SetAttributes(model, preprocess=False))
            batch_size = batch_size or 1
        stack.enter_context(model)
        return _embed(model, ids, paths, batch_size, workers, skip_failures)


def _embed(
    model: Any,
    ids: list[str],
    paths: list[str],
    batch_size: int | None,
    workers: int | None,
    skip_failures: bool,
) -> Embedded:
    found = Embedded()
    size = batch_size or 1
    torch = isinstance(model, fom.TorchModelMixin)
    with (_loaded if torch else _decoded)(model, paths, size, workers, skip_failures) as batches:
        for start, batch in zip(range(0, len(ids), size), batches):
            part = slice(start, start + size)
            try:
                vectors = _apply(model, batch, one_by_one=batch_size is None)
                if len(vectors) != len(ids[part]):
                    raise ValueError(f"{len(vectors)} embeddings of {len(ids[part])} images")
            except Exception as error:
                if not skip_failures:
                    raise
                if len(ids[part]) == 1:
                    found.reasons[ids[start]] = reason(error)
                else:
                    found.join(_embed(model, ids[part], paths[part], 1, workers, skip_failures))
            else:
                found.join(Embedded(ids[part], vectors))
    return found


def _apply(model: Any, batch: Any, *, one_by_one: bool) -> list[Any]:
    if isinstance(batch, Exception):
        raise batch
    return [model.embed(batch[0])] if one_by_one else list(model.embed_all(batch))


def _loaded(
    model: Any, paths: list[str], size: int, workers: int | None, skip_failures: bool
) -> AbstractContextManager[Iterator[Any]]:
    """Returns the batches of FiftyOne's data loader for a Torch model."""
    from torch.utils.data import DataLoader

    collate = model.collate_fn if model.has_collate_fn else None
    dataset = fout.TorchImageDataset(
        image_paths=paths, transform=model.transforms, force_rgb=True, skip_failures=skip_failures
    )
    loader = DataLoader(
        dataset,
        batch_size=size,
        num_workers=fout.recommend_num_workers(workers),
        collate_fn=fom.ErrorHandlingCollate(
            skip_failures, ragged_batches=False, use_numpy=False, user_collate_fn=collate
        ),
    )
    return nullcontext(iter(loader))


@contextmanager
def _decoded(
    model: Any, paths: list[str], size: int, workers: int | None, skip_failures: bool
) -> Iterator[Iterator[Any]]:
    """Yields batches of images as arrays; in place of one that has an unreadable image, why."""
    with _Reader(paths, workers or (os.cpu_count() or 1) + 1) as images:

        def batches() -> Iterator[Any]:
            while batch := list(islice(images, size)):
                errors = (image for image in batch if isinstance(image, Exception))
                yield next(errors, batch)

        yield batches()


class _Reader:
    """An iterator over images in the order of their paths, which threads read ahead.

    An image that can't be read is the exception. No more is read while :data:`_AHEAD_BYTES` wait.
    """

    def __init__(self, paths: Sequence[str], threads: int) -> None:
        self._paths = iter(paths)
        self._chunk = 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fiftyone-milvus-images")
        self._pending: deque[Future[list[Any]]] = deque()
        self._changed = threading.Condition()
        self._submitted = 0
        self._first = 0  # the chunk that is needed next, which is read in any case
        self._bytes = 0
        self._closed = False

    def __enter__(self) -> Iterator[Any]:
        return self._images()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A file system that does not answer must not hold up an interruption
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _images(self) -> Iterator[Any]:
        while True:
            while len(self._pending) < _MOST_CHUNKS:
                if not (paths := list(islice(self._paths, self._chunk))):
                    break
                self._pending.append(self._pool.submit(self._read, self._submitted, paths))
                self._submitted += 1
            if not self._pending:
                return
            images = self._pending.popleft().result()
            size = sum(map(_size, images))
            self._chunk = min(max(1, _CHUNK_BYTES * len(images) // max(size, 1)), _CHUNK)
            with self._changed:
                self._first += 1
                self._bytes -= size
                self._changed.notify_all()
            yield from images

    def _read(self, number: int, paths: Sequence[str]) -> list[Any]:
        images: list[Any] = []
        for path in paths:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._bytes < _AHEAD_BYTES or number == self._first or self._closed
                )
                if self._closed:
                    break
            try:
                images.append(foui.read(path))
            except Exception as error:
                images.append(error)
            with self._changed:
                self._bytes += _size(images[-1])
        return images


def _size(image: Any) -> int:
    return getattr(image, "nbytes", 0)
