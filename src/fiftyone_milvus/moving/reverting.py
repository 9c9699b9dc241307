"""A run of ours becomes one of the built-in backend, in place."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import eta.core.utils as etau

from fiftyone_milvus.errors import CollectionMismatchError
from fiftyone_milvus.inventory.opening import open_index
from fiftyone_milvus.layout import PK, SAMPLE_ID, VECTOR, Layout
from fiftyone_milvus.moving import builtin, runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reverted:
    """What :func:`revert` did.

    Attributes:
        brain_key: of the run
        dropped: the names of parameters that the run had set and the built-in does not have
        changed: False if the run was the built-in's already
    """

    brain_key: str
    dropped: tuple[str, ...] = ()
    changed: bool = True


def revert(dataset: Any, brain_key: str) -> Reverted:
    """Makes a run of this package one of FiftyOne's built-in ``milvus`` backend, in place.

    The collection stays as it is. What the built-in has no parameter for, as ``index_type``, is no
    longer recorded.

    The built-in opens a Milvus Lite directory itself, and can do so only while no other process
    does: end the embedded service first, with ``fiftyone-milvus stop``, and load the run with
    ``uri=``.

    Example::

        from fiftyone_milvus import moving

        moving.revert(dataset, "similar")
        index = dataset.load_brain_results("similar")  # the built-in's

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the run

    Returns:
        a :class:`Reverted`

    Raises:
        InvalidInputError: if there is no such run, or it is another backend's
        CollectionMismatchError: if the built-in could not use the collection
        FiftyOneMilvusError: if Milvus does not answer
    """
    if builtin.is_builtin(runs.document(dataset, brain_key)):
        return Reverted(brain_key, changed=False)
    index = open_index(dataset, brain_key)
    if index._collection.exists():
        _check(index._collection.where, index._collection.describe())
    recorded = index.config.serialize()
    known = builtin.parameters()
    cls = builtin.config_class()
    config = cls(**{n: v for n, v in recorded.items() if n in known})
    dropped = tuple(
        sorted(
            name
            for name, value in recorded.items()
            if name not in known | {"cls", "type", "method"} and value is not None
        )
    )
    # As FiftyOne names the class of the results
    results = f"{etau.get_class_name(config.run_cls)}Index"
    runs.rewrite(dataset, brain_key, config.serialize(), {"cls": results})
    path = index.connection.target.path
    if path is not None:
        logger.info(
            "The built-in backend opens '%s' by itself: end its service first (fiftyone-milvus "
            "stop), then load the run with uri='%s'",
            path,
            path,
        )
    return Reverted(brain_key, dropped)


def _check(where: str, layout: Layout) -> None:
    if (layout.id_field, layout.vector_field, layout.sample_field) != (PK, VECTOR, SAMPLE_ID):
        raise CollectionMismatchError(
            f"The built-in backend can't use the {where}: it knows fields '{PK}', '{VECTOR}' and "
            f"'{SAMPLE_ID}' only, and these are '{layout.id_field}', '{layout.vector_field}' and "
            f"{layout.sample_field!r}"
        )
    beside = [*(layout.fields.columns if layout.fields else ()), *layout.required]
    if beside:
        raise CollectionMismatchError(
            f"The built-in backend can't use the {where}: it has {len(beside)} fields beside the "
            "vectors, and the built-in can't add rows to it; migrate(..., fields=[]) makes an "
            "index without, which can be reverted"
        )
