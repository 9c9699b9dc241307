"""Reads queries: samples, views, labels and images, besides IDs, texts and vectors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import fiftyone as fo
import fiftyone.core.collections as foc
import numpy as np
from bson import ObjectId
from fiftyone.core.labels import Label
from fiftyone.core.sample import SampleView

from fiftyone_milvus.dataset import images, object_ids
from fiftyone_milvus.dataset.crops import Crop
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)

_NUMBERS = (float, int, np.generic)


class Text(str):
    """A text that is never taken for the path of an image, as a stranger may have typed it."""

    __slots__ = ()


def read(index: Any, query: Any, *, files: bool = False) -> Any:
    """Returns a query as IDs, texts or vectors, and anything else as it is.

    Args:
        index: the index to search
        query: what :meth:`MilvusSimilarityIndex.search` takes
        files (False): whether a string that is a path or an address names an image. If not, it is
            a text, with a warning

    Raises:
        InvalidInputError: if an image can't be read or embedded, or samples or labels can't be
            queries of this index
    """
    if isinstance(query, Iterator):
        query = list(query)
    one = _one(index, query, files)
    if one is not None:
        return one
    if not isinstance(query, (list, tuple)) or all(isinstance(i, _NUMBERS) for i in query):
        return query
    found = [_one(index, item, files) for item in query]
    if all(item is None for item in found):
        return query
    if all(are_ids(q if item is None else item) for q, item in zip(query, found)):
        return [i for q, item in zip(query, found) for i in ([q] if item is None else item)]
    # Images among IDs, texts or vectors
    each = [q if item is None else item for q, item in zip(query, found)]
    return np.concatenate([vectors(index, item) for item in each])


def texts(query: Any) -> Any:
    """Returns a query whose strings are no paths, as :func:`read` has looked at them."""
    if isinstance(query, str):
        return Text(query)
    if isinstance(query, (list, tuple)):
        return [Text(item) if isinstance(item, str) else item for item in query]
    return query


def _one(index: Any, query: Any, files: bool) -> Any:
    """Returns the vector of an image, or the IDs of samples or labels; None for anything else."""
    if isinstance(query, (ObjectId, *_NUMBERS)):
        return None
    # There may be many IDs, and to ask for a file takes longer than to look at a text
    if isinstance(query, str):
        if isinstance(query, Text) or ObjectId.is_valid(query) or not images.is_path(query):
            return None
        if not files:
            # FiftyOne passes on what is typed in the App
            logger.warning(
                "%s is searched for as a text; index.search() takes it for an image", shown(query)
            )
            return None
    pixels = query.pixels if isinstance(query, Crop) else images.pixels(query)
    if pixels is not None:
        return images.embed(index, pixels)
    ids = _ids(index, query)
    if ids is not None and not ids:
        raise InvalidInputError(
            "There is nothing to search by: these samples, or this label, have nothing that the "
            "index could hold; pass others"
        )
    return ids


def _ids(index: Any, query: Any) -> list[str] | None:
    """Returns the primary keys of samples or labels; None for anything else."""
    field = index.config.patches_field
    if isinstance(query, foc.SampleCollection):
        index._check_samples(query)
        return object_ids.to_strings(expected_rows.read(query, field).keys)
    if isinstance(query, (fo.Sample, SampleView)):
        # Patches and frames name the sample that they are of
        of_patch = isinstance(query, SampleView) and query.has_field("sample_id")
        sample_id = str(query["sample_id"] if of_patch else query.id)
        if field is None:
            return [sample_id]
        if of_patch:
            return [str(query.id)]
        return index._lookup.find([sample_id], True, True, False)
    if isinstance(query, Label):
        if field is None:
            raise InvalidInputError(
                "A label can't be searched for in an index of samples; pass the sample, or use an "
                "index of patches"
            )
        name = getattr(query, "_LABEL_LIST_FIELD", None)
        return [str(label.id) for label in (query[name] if name else [query])]
    return None


def are_ids(value: Any) -> bool:
    """Whether a value that :func:`read` returned is an ID, or a list of IDs."""
    values = [value] if isinstance(value, (str, ObjectId)) else value
    return isinstance(values, list) and all(
        isinstance(i, (str, ObjectId)) and ObjectId.is_valid(i) for i in values
    )


def vectors(index: Any, query: Any) -> Array:
    """Returns the vectors of what :func:`read` returned: a ``num_vectors x num_dims`` array."""
    if isinstance(query, np.ndarray) and query.ndim == 1:
        query = query[None, :]
    parsed = index._parse_query([query] if isinstance(query, str) else query)
    found: Array = index._parse_vectors(parsed)[0]
    return found


def check_text(index: Any, texts: Sequence[str]) -> None:
    """Raises InvalidInputError if texts are given, and the index has no model that takes them."""
    if not texts or ObjectId.is_valid(texts[0]) or index.supports_prompts:
        return
    what = f"can't be searched by the text '{texts[0][:60]}'"
    if index.config.model is None and index._model is None:
        raise InvalidInputError(
            f"Index '{index.key}' has no model, so it {what}; attach the model of its embeddings "
            "with index.use_model(), or pass an ID or a vector"
        )
    name = index.config.model or type(index._model).__name__
    raise InvalidInputError(
        f"The model '{name}' of index '{index.key}' takes no text, so it {what}; pass an image or "
        "an ID"
    )
