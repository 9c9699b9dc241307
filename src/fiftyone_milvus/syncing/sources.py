"""Where embeddings come from: a model, a field, or an array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import fiftyone.core.dataset as fod
import fiftyone.core.patches as fop
import numpy as np

from fiftyone_milvus.dataset import internals, object_ids
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.search.views import is_plain
from fiftyone_milvus.syncing.embedding_errors import Announcements, Failures
from fiftyone_milvus.syncing.expected_rows import Wanted


@dataclass(frozen=True)
class Found:
    """Embeddings of some of the keys that were asked for.

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


class Source(Protocol):
    """Gives embeddings, some at a time."""

    nothing: str
    """Why a key has no embedding, where nothing else is known."""

    def check(self, wanted: Wanted) -> None:
        """Raises if it can't be used for these keys at all."""
        ...

    def embed(self, part: Wanted) -> Found:
        """Returns the embeddings of some keys."""
        ...


class Parts:
    """The samples that some keys are of, as views.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is synced
        patches_field: the field of the patches, or None for samples
        every_label: whether the keys are of every patch of their samples
    """

    def __init__(self, samples: Any, patches_field: str | None, every_label: bool = False) -> None:
        dataset = samples._dataset
        # A view's stages would run for every part; the keys say already what they leave
        plain = is_plain(samples) and dataset.media_type != "group"
        self.samples = dataset if plain else samples
        self.patches_field = patches_field
        self.every_label = every_label or isinstance(samples, fop.PatchesView)

    def view(self, part: Wanted, *, labels: bool = True) -> Any:
        """Returns the view of some keys.

        Args:
            part: the keys
            labels: whether to leave out the other patches of their samples
        """
        documents = object_ids.to_strings(np.unique(part.documents))
        view = self.samples.select(documents)
        if labels and self.patches_field is not None and not self.every_label:
            keys = object_ids.to_strings(part.keys)
            view = view.select_labels(ids=keys, fields=self.patches_field)
        return view


class ModelSource:
    """A FiftyOne model, applied by FiftyOne.

    Args:
        parts: the samples
        compute: embeds a view, as ``SimilarityIndex.compute_embeddings`` does
        batch_size: the model's batch size, or None
        skip_failures: whether to go on where a sample can't be embedded
    """

    nothing = "the model gave no embedding"

    def __init__(
        self,
        parts: Parts,
        compute: Callable[..., tuple[Any, Any, Any]],
        batch_size: int | None,
        skip_failures: bool,
    ) -> None:
        self._parts = parts
        self._compute = compute
        self._batch_size = batch_size
        self._skip = skip_failures
        self._announcements = Announcements()

    def check(self, wanted: Wanted) -> None:
        """Does nothing: FiftyOne checks a model when it applies it."""

    def embed(self, part: Wanted) -> Found:
        """Returns the embeddings of some keys; where a batch fails, its samples one by one."""
        if not self._skip:
            return self._apply(part, self._batch_size)
        with Failures() as failures:
            found = self._apply(part, self._batch_size)
        if failures.batches:
            rest = ~np.isin(part.keys, object_ids.from_strings(found.keys)[0])
            with Failures() as failures:
                found = _join(found, self._apply(part.take(np.flatnonzero(rest)), 1))
        return Found(found.keys, found.sample_ids, found.vectors, failures.reasons)

    def _apply(self, part: Wanted, batch_size: int | None) -> Found:
        view = self._parts.view(part)
        with self._announcements:
            try:
                found = self._compute(view, batch_size=batch_size)
            except ValueError:
                # FiftyOne counts samples again at the end; some may have been deleted meanwhile
                if view.count() == len(np.unique(part.documents)):
                    raise
                found = self._compute(view, batch_size=batch_size)
        return _found(*found)


class FieldSource:
    """A field of the dataset that holds embeddings.

    Args:
        parts: the samples
        path: the field; for patches, the attribute of the labels, as FiftyOne names it
    """

    def __init__(self, parts: Parts, path: str) -> None:
        self._parts = parts
        patches_field = parts.patches_field
        parse = internals.brain_util("parse_data_field")
        self._path, exists = parse(parts.samples, path, patches_field=patches_field)
        if not exists:
            raise InvalidInputError(
                f"There is no field '{path}' with embeddings; compute it first, or give a model"
            )
        self.nothing = f"field '{path}' holds no embedding"

    def check(self, wanted: Wanted) -> None:
        """Does nothing: the field was looked up when this was made."""

    def embed(self, part: Wanted) -> Found:
        """Reads the embeddings of some keys."""
        view = self._parts.view(part)
        patches_field = self._parts.patches_field
        get_embeddings = internals.brain_util("get_embeddings")
        return _found(
            *get_embeddings(view, embeddings_field=self._path, patches_field=patches_field)
        )


class ArraySource:
    """Embeddings that the caller has, as ``compute_similarity(embeddings=)`` takes them.

    Args:
        parts: the samples
        embeddings: a ``num_samples x num_dims`` array, or a dict of sample IDs to vectors; for
            patches, a list or dict of ``num_patches x num_dims`` arrays per sample
        samples: what is synced, in whose order an array or a list is
    """

    nothing = "embeddings holds none for it"

    def __init__(self, parts: Parts, embeddings: Any, samples: Any) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._samples = samples
        self._at: dict[str, int] = {}

    def check(self, wanted: Wanted) -> None:
        """Raises if there are more or fewer embeddings than samples."""
        if isinstance(self._embeddings, Mapping):
            return
        patches = self._parts.patches_field is not None
        ids = self._samples.values("id") if patches else object_ids.to_strings(wanted.keys)
        if len(self._embeddings) != len(ids):
            raise InvalidInputError(
                f"Found {len(self._embeddings)} embeddings but {len(ids)} samples; give one each, "
                "in their order, or a dict of sample IDs to embeddings"
            )
        self._at = {_id: at for at, _id in enumerate(ids)}

    def embed(self, part: Wanted) -> Found:
        """Picks the embeddings of some keys."""
        documents = object_ids.to_strings(part.documents)
        if self._parts.patches_field is None:
            if isinstance(self._embeddings, np.ndarray):
                at = [self._at[_id] for _id in documents]
                return Found(documents, documents, self._embeddings[at])
            given = {_id: self._get(_id) for _id in documents}
            keys = [_id for _id in documents if given[_id] is not None]
            return Found(keys, keys, np.array([given[_id] for _id in keys]))
        view = self._parts.view(part, labels=False)
        embeddings = {_id: self._get(_id) for _id in documents}
        field_name = self._parts.patches_field
        get_embeddings = internals.brain_util("get_embeddings")
        return _found(*get_embeddings(view, embeddings=embeddings, patches_field=field_name))

    def _get(self, document: str) -> Any:
        if isinstance(self._embeddings, Mapping):
            return self._embeddings.get(document)
        return self._embeddings[self._at[document]]


def every_label(samples: Any, missing: int, wanted: Wanted) -> bool:
    """Whether the keys that are missing are of every patch of their samples."""
    return isinstance(samples, fod.Dataset) and missing == len(wanted)


def _found(vectors: Any, sample_ids: Any, label_ids: Any) -> Found:
    samples = [str(i) for i in sample_ids]
    keys = samples if label_ids is None else [str(i) for i in label_ids]
    return Found(keys, samples, vectors)


def _join(one: Found, other: Found) -> Found:
    if not one.keys or not other.keys:
        return one if one.keys else other
    vectors = np.concatenate([one.vectors, other.vectors])
    return Found(one.keys + other.keys, one.sample_ids + other.sample_ids, vectors)
