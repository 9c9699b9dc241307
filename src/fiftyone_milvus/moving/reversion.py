"""A run of ours becomes one of the built-in backend, in place."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import eta.core.utils as etau

from fiftyone_milvus.errors import CollectionMismatchError, CollectionNotFoundError
from fiftyone_milvus.moving import builtin, runs
from fiftyone_milvus.moving.own_runs import open_at
from fiftyone_milvus.schema.layout import PK, SAMPLE_ID, VECTOR, Layout

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


def revert(dataset: Any, brain_key: str, **credentials: Any) -> Reverted:
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
        **credentials: where the collection is, as ``uri=``, ``token=``. By default, those that
            the run was loaded with in this process, else those of FiftyOne's brain config

    Returns:
        a :class:`Reverted`

    Raises:
        InvalidInputError: if there is no such run, or it is another backend's
        CollectionMismatchError: if the built-in could not use the collection
        CollectionNotFoundError: if the run says that, and the collection is not there
        FiftyOneMilvusError: if Milvus does not answer
    """
    builtin.given(credentials)
    if builtin.is_builtin(runs.document(dataset, brain_key)):
        return Reverted(brain_key, changed=False)
    index = open_at(dataset, brain_key, credentials)
    if index._collection.exists():
        _check(index._collection.where, index._collection.describe())
    elif peculiar := _peculiar(index.config):
        raise CollectionNotFoundError(
            f"There is no {index._collection.where}, and the run '{brain_key}' has "
            f"{', '.join(peculiar)}, which the built-in backend can't use; pass uri= if the "
            "collection is in another Milvus, else delete the brain run"
        )
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


def _peculiar(config: Any) -> list[str]:
    """Returns the parameters of a run that tell of a collection unlike the built-in's."""
    usual = {"fields": (None, []), "id_field": (None, PK), "vector_field": (None, VECTOR)}
    return [name for name, values in usual.items() if getattr(config, name) not in values]


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
