"""Where embeddings come from: a model, a field, or the caller."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import fiftyone.core.dataset as fod
import fiftyone.core.patches as fop
import numpy as np

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.internals import brain_utils as fbu
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.search.views import is_plain
from fiftyone_milvus.syncing import images
from fiftyone_milvus.syncing.embedding_errors import Announcements, Failures
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.scope import Options
from fiftyone_milvus.writing.arrays import refuse_masked


@dataclass(frozen=True)
class Found:
    """Embeddings of some of the expected rows.

    Attributes:
        keys: sample IDs, or the label IDs of patches
        sample_ids: the sample of each
        vectors: a ``num_keys x num_dims`` array of any real dtype
        reasons: why samples have none, by sample ID, as far as known
    """

    keys: list[str]
    sample_ids: list[str]
    vectors: Any
    reasons: dict[str, str] = field(default_factory=dict)


class Source(ABC):
    """Returns embeddings, some at a time.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is synced
        patches_field: the field of the patches, or None for samples
    """

    no_embedding: str
    """Why a row has no embedding, if nothing else is known."""

    lost = 0
    """How many processes that embed ended before they were told to."""

    def __init__(self, samples: Any, patches_field: str | None) -> None:
        # A view's stages would run again for each part, and the keys already tell what it keeps
        self.samples = samples._dataset if self.is_of_dataset(samples) else samples
        self.patches_field = patches_field
        self._synced = samples
        self._every_label = isinstance(samples, fop.PatchesView)

    @staticmethod
    def is_of_dataset(samples: Any) -> bool:
        """Whether what is embedded can be looked up in the dataset of a view."""
        return bool(is_plain(samples) and samples._dataset.media_type != "group")

    def prepare(self, expected: Expected, missing: int) -> None:
        """Is called once, when the index was compared.

        Args:
            expected: the expected rows
            missing: how many of them are missing

        Raises:
            InvalidInputError: if this source can't be used for these rows
        """
        if isinstance(self._synced, fod.Dataset) and missing == len(expected):
            self._every_label = True

    @abstractmethod
    def embed(self, part: Expected) -> Found:
        """Returns the embeddings of some expected rows."""

    def each(self, parts: Iterator[Expected]) -> Iterator[tuple[Expected, Found, float]]:
        """Yields parts with their embeddings, and the seconds that each took.

        Args:
            parts: each is taken when the one before was used, or earlier where several are embedded
                at the same time
        """
        for part in parts:
            start = time.monotonic()
            found = self.embed(part)
            yield part, found, time.monotonic() - start

    def close(self) -> None:  # noqa: B027  (most start nothing)
        """Ends what this started."""

    def view(self, part: Expected, *, labels: bool = True) -> Any:
        """Returns a view of some expected rows.

        Args:
            part: the rows
            labels: whether to leave out the other patches of their samples
        """
        view = self.samples.select(object_ids.to_strings(np.unique(part.documents)))
        if labels and self.patches_field is not None and not self._every_label:
            keys = object_ids.to_strings(part.keys)
            view = view.select_labels(ids=keys, fields=self.patches_field)
        return view

    def files(self, part: Expected) -> images.Files:
        """Returns the samples of some expected rows that still exist, and the path of each."""
        if not isinstance(self.samples, fod.Dataset):
            ids, paths = self.view(part).values(["id", "filepath"])
            return ids, paths
        # The same query, and a tenth of the work of a view and its aggregation
        match = {"_id": {"$in": object_ids.to_object_ids(part.documents)}}
        found = list(self.samples._sample_collection.find(match, {"filepath": True}))
        return [str(doc["_id"]) for doc in found], [doc.get("filepath") for doc in found]


class ModelSource(Source):
    """A FiftyOne model, which FiftyOne applies, unless it needs only the pixels of whole images.

    Args:
        samples: as for :class:`Source`
        patches_field: likewise
        compute: embeds a view, as ``SimilarityIndex.compute_embeddings`` does
        options: the batch size, and whether to skip failures
        model (None): the model, if it may be applied to whole images without FiftyOne
        workers (None): how many threads, or processes of a Torch model, read images for it
    """

    no_embedding = "the model gave no embedding"

    def __init__(
        self,
        samples: Any,
        patches_field: str | None,
        compute: Callable[..., tuple[Any, Any, Any]],
        options: Options,
        model: Any = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(samples, patches_field)
        self._model = model
        self._workers = workers
        self._compute = compute
        self._options = options
        self._announcements = Announcements()

    def embed(self, part: Expected) -> Found:
        """Returns the embeddings of some rows. If a batch fails, embeds its samples one by one."""
        batch_size = self._options.batch_size
        if self._serves():
            ((_, found, _),) = self._read(iter([part]))
            return found
        if not self._options.skip_failures:
            return self._apply(part, batch_size)
        with Failures() as failures:
            found = self._apply(part, batch_size)
        if failures.batches:
            rest = ~np.isin(part.keys, object_ids.from_strings(found.keys)[0])
            with Failures() as failures:
                found = _join(found, self._apply(part.take(np.flatnonzero(rest)), 1))
        return replace(found, reasons=failures.reasons)

    def each(self, parts: Iterator[Expected]) -> Iterator[tuple[Expected, Found, float]]:
        """Yields parts with their embeddings; images of the next are read at the same time."""
        return self._read(parts) if self._serves() else super().each(parts)

    def _serves(self) -> bool:
        model = self._model
        return model is not None and images.serves(self.samples, model, self._options.batch_size)

    def _read(self, parts: Iterator[Expected]) -> Iterator[tuple[Expected, Found, float]]:
        taken: deque[Expected] = deque()

        def files() -> Iterator[images.Files]:
            for part in parts:
                taken.append(part)
                yield self.files(part)

        start = time.monotonic()
        for found in images.embed_each(
            files(),
            self._model,
            self._options.batch_size,
            workers=self._workers,
            skip_failures=self._options.skip_failures,
        ):
            yield taken.popleft(), of_images(found), time.monotonic() - start
            start = time.monotonic()

    def _apply(self, part: Expected, batch_size: int | None) -> Found:
        view = self.view(part)
        with self._announcements:
            try:
                found = self._compute(view, batch_size=batch_size)
            except ValueError:
                # FiftyOne counts the samples again at the end, and some may have been deleted
                if view.count() == len(np.unique(part.documents)):
                    raise
                found = self._compute(view, batch_size=batch_size)
        return _found(*found)


class FieldSource(Source):
    """A field of the dataset that contains embeddings.

    Args:
        samples: as for :class:`Source`
        patches_field: likewise
        path: the field; for patches, the attribute of the labels, as FiftyOne names it

    Raises:
        InvalidInputError: if there is no such field
    """

    def __init__(self, samples: Any, patches_field: str | None, path: str) -> None:
        super().__init__(samples, patches_field)
        self._path, exists = fbu.parse_data_field(self.samples, path, patches_field=patches_field)
        if not exists:
            raise InvalidInputError(
                f"There is no field '{path}' with embeddings; compute it first, or pass a model"
            )
        self.no_embedding = f"field '{path}' has no embedding"

    def embed(self, part: Expected) -> Found:
        """Reads the embeddings of some rows."""
        return _found(
            *fbu.get_embeddings(
                self.view(part), embeddings_field=self._path, patches_field=self.patches_field
            )
        )


class ArraySource(Source):
    """Embeddings that the caller passes, as ``compute_similarity(embeddings=)`` takes them.

    Args:
        samples: as for :class:`Source`; an array or a list is in its order
        patches_field: likewise
        embeddings: a ``num_samples x num_dims`` array, or a dict of sample IDs to vectors; for
            patches, a list or dict of ``num_patches x num_dims`` arrays per sample
    """

    no_embedding = "embeddings has none for it"

    def __init__(self, samples: Any, patches_field: str | None, embeddings: Any) -> None:
        super().__init__(samples, patches_field)
        self._embeddings = embeddings
        self._at: dict[str, int] = {}

    def prepare(self, expected: Expected, missing: int) -> None:
        """Raises InvalidInputError if there are more or fewer embeddings than samples."""
        super().prepare(expected, missing)
        if isinstance(self._embeddings, Mapping):
            return
        if self.patches_field is None:
            ids = object_ids.to_strings(expected.keys)
        else:
            ids = self._synced.values("id")
        if len(self._embeddings) != len(ids):
            raise InvalidInputError(
                f"Found {len(self._embeddings)} embeddings but {len(ids)} samples; pass one for "
                "each, in their order, or a dict of sample IDs to embeddings"
            )
        self._at = {_id: at for at, _id in enumerate(ids)}

    def embed(self, part: Expected) -> Found:
        """Picks the embeddings of some rows."""
        ids = object_ids.to_strings(part.documents)
        if self.patches_field is None and isinstance(self._embeddings, np.ndarray):
            return Found(ids, ids, self._embeddings[[self._at[_id] for _id in ids]])
        given = {_id: self._get(_id) for _id in ids}
        refuse_masked([*given.values()], "embeddings")
        if self.patches_field is None:
            keys = [_id for _id in ids if given[_id] is not None]
            return Found(keys, keys, np.array([given[_id] for _id in keys]))
        view = self.view(part, labels=False)
        return _found(*fbu.get_embeddings(view, embeddings=given, patches_field=self.patches_field))

    def _get(self, document: str) -> Any:
        if isinstance(self._embeddings, Mapping):
            return self._embeddings.get(document)
        return self._embeddings[self._at[document]]


def of_images(found: images.Embedded) -> Found:
    """Returns the embeddings of whole images as those of rows."""
    vectors = np.stack(found.vectors) if found.ids else np.empty((0, 0))
    return Found(found.ids, found.ids, vectors, found.reasons)


def _found(vectors: Any, sample_ids: Any, label_ids: Any) -> Found:
    samples = [str(i) for i in sample_ids]
    keys = samples if label_ids is None else [str(i) for i in label_ids]
    return Found(keys, samples, vectors)


def _join(one: Found, other: Found) -> Found:
    if not one.keys or not other.keys:
        return one if one.keys else other
    vectors = np.concatenate([one.vectors, other.vectors])
    return Found(one.keys + other.keys, one.sample_ids + other.sample_ids, vectors)
