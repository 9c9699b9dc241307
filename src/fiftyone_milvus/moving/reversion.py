"""Reverts a run of this package: makes it one of the built-in backend, in place."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import eta.core.utils as etau

from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.errors import CollectionMismatchError, CollectionNotFoundError
from fiftyone_milvus.moving import builtin, runs
from fiftyone_milvus.schema.layout import PK, SAMPLE_ID, VECTOR, Layout

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reverted:
    """What :func:`revert` did.

    Attributes:
        brain_key: the brain key of the run
        dropped: the names of the run's parameters that the built-in backend does not have
        changed: False if the run already was one of the built-in backend
    """

    brain_key: str
    dropped: tuple[str, ...] = ()
    changed: bool = True


@needs_database
def revert(dataset: Any, brain_key: str, **credentials: Any) -> Reverted:
    """Makes a run of this package one of FiftyOne's built-in ``milvus`` backend, in place.

    The collection stays as it is. Parameters that the built-in does not have, such as
    ``index_type``, are no longer recorded.

    The built-in opens a Milvus Lite directory itself, and only while no other process has it open:
    first end the embedded service with ``fiftyone-milvus stop``, then load the run with ``uri=``.

    Example::

        from fiftyone_milvus import moving

        moving.revert(dataset, "similar")
        index = dataset.load_brain_results("similar")  # the built-in's

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: the brain key of the run
        **credentials: the address of the collection, such as ``uri=`` and ``token=``. By default,
            those that the run was loaded with in this process, else those of FiftyOne's brain
            config

    Returns:
        a :class:`Reverted`

    Raises:
        InvalidInputError: if there is no such run, or it is of another backend
        CollectionMismatchError: if the built-in can't use the collection
        CollectionNotFoundError: if the collection does not exist, and the run has parameters that
            the built-in can't use
        FiftyOneMilvusError: if Milvus does not answer
    """
    runs.check_dataset(dataset)
    builtin.given(credentials)
    if builtin.is_builtin(runs.document(dataset, brain_key)):
        return Reverted(brain_key, changed=False)
    index = builtin.open_run(dataset, brain_key, credentials)
    if index._collection.exists():
        _check(index._collection.where, index._collection.describe())
    elif unusable := _unusable(index.config):
        raise CollectionNotFoundError(
            f"There is no {index._collection.where}, and the run '{brain_key}' has "
            f"{', '.join(unusable)}, which the built-in backend can't use; pass uri= if the "
            "collection is in another Milvus, else delete the brain run"
        )
    recorded = index.config.serialize()
    cls = builtin.config_class()
    known = builtin.recorded(cls)
    config = cls(**{n: v for n, v in recorded.items() if n in known})
    lost = set(recorded) - known - {"cls", "type", "method"}
    dropped = tuple(sorted(name for name in lost if recorded[name] is not None))
    # FiftyOne's own naming rule
    results = f"{etau.get_class_name(config.run_cls)}Index"
    runs.rewrite(dataset, brain_key, config.serialize(), {"cls": results})
    path = index.connection.target.path
    if path is not None:
        logger.info(
            "The built-in backend opens '%s' itself: first end its service (fiftyone-milvus stop), "
            "then load the run with uri='%s'",
            path,
            path,
        )
    return Reverted(brain_key, dropped)


def _unusable(config: Any) -> list[str]:
    """Returns the parameters of a run that the built-in's collections don't have."""
    usual = {"fields": (None, []), "id_field": (None, PK), "vector_field": (None, VECTOR)}
    return [name for name, values in usual.items() if getattr(config, name) not in values]


def _check(where: str, layout: Layout) -> None:
    if (layout.id_field, layout.vector_field, layout.sample_field) != (PK, VECTOR, SAMPLE_ID):
        raise CollectionMismatchError(
            f"The built-in backend can't use the {where}: it needs fields '{PK}', '{VECTOR}' and "
            f"'{SAMPLE_ID}', and these are '{layout.id_field}', '{layout.vector_field}' and "
            f"{layout.sample_field!r}; keep the run, or make a new one with the built-in"
        )
    further = [*(layout.fields.columns if layout.fields else ()), *layout.required]
    if further:
        raise CollectionMismatchError(
            f"The built-in backend can't use the {where}: it has {len(further)} metadata fields, "
            "which the built-in can't fill; migrate(..., fields=[]) makes an index without, which "
            "can be reverted"
        )
