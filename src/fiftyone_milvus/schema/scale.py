"""The scale of a new collection: shards, replicas, memory maps, partitions.

The embedded engine ignores the layout of rows (shards, partitions) with a line in the log, since
results stay the same. It refuses what the user would miss: without replicas no copy survives the
loss of a node, and without a memory map the vectors may not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fiftyone_milvus.connection import Connection, Request
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.numbers import check_flag, check_integer
from fiftyone_milvus.schema.columns import Column, Kind

logger = logging.getLogger(__name__)

MMAP = "mmap.enabled"
"""The property of collections and indexes that makes Milvus map them instead of loading them."""

MAX_SHARDS = 16
MAX_PARTITIONS = 1_024

_MMAP_INDEXES = ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "HNSW", "HNSW_SQ", "HNSW_PQ", "HNSW_PRQ")
_NODES = "__default_resource_group"


@dataclass(frozen=True)
class Scale:
    """The scale of a new collection; None leaves a choice to Milvus.

    Attributes:
        num_shards: the number of channels for writes
        replicas: the number of query nodes that hold each row
        mmap: whether vectors and index are mapped from disk
        partition_key: the FiftyOne field whose values decide the partition of a row
        num_partitions: the number of partitions that these values are hashed into
    """

    num_shards: int | None = None
    replicas: int | None = None
    mmap: bool | None = None
    partition_key: str | None = None
    num_partitions: int | None = None

    def for_index(self, index_type: str) -> dict[str, str]:
        """Returns the build parameters that a vector index needs for this scale."""
        # Milvus 2.4 needs it for the index too; DISKANN and GPU indexes can't be mapped
        if self.mmap is None or index_type not in _MMAP_INDEXES:
            return {}
        return {MMAP: str(self.mmap).lower()}


def check_scale(scale: Scale, fields: Sequence[str] | None) -> Scale:
    """Checks the parameters of a config, without Milvus or a dataset.

    Args:
        scale: the user's parameters
        fields: the metadata fields

    Returns:
        the same parameters, with built-in numbers

    Raises:
        InvalidInputError: naming the parameter, its value and what was expected
    """
    limits = {"num_shards": MAX_SHARDS, "replicas": None, "num_partitions": MAX_PARTITIONS}
    numbers: dict[str, Any] = {
        name: check_integer(name, value, high=high)
        for name, high in limits.items()
        if (value := getattr(scale, name)) is not None
    }
    scale = replace(scale, **numbers)
    if scale.mmap is not None:
        scale = replace(scale, mmap=check_flag("mmap", scale.mmap))
    key = scale.partition_key
    if key is None:
        if scale.num_partitions is not None:
            raise InvalidInputError(
                f"num_partitions={scale.num_partitions} has no effect without a partition_key; "
                "pass one of fields as partition_key, or leave num_partitions out"
            )
    elif key not in (fields or ()):
        raise InvalidInputError(
            f"Invalid partition_key {key!r}; expected one of fields, which are "
            f"{list(fields or ()) or 'none'}"
        )
    return scale


def check_partition_key(scale: Scale, columns: Sequence[Column]) -> None:
    """Checks the type of the partition key.

    Raises:
        InvalidInputError: if it holds neither strings nor integers
    """
    for column in columns:
        if column.path == scale.partition_key and column.kind not in (Kind.STRING, Kind.INT):
            raise InvalidInputError(
                f"partition_key={column.path!r} is a {column.kind.value}; expected a field of "
                "strings or integers"
            )


def fitted(scale: Scale, connection: Connection) -> Scale:
    """Returns the part of a scale that an engine supports.

    Raises:
        InvalidInputError: if it does not support replicas or a memory map that were asked for
    """
    engine = connection.engine
    where = f"{engine.title} at {connection.target.address}"
    if not engine.lite:
        _check_nodes(scale.replicas, connection, where)
        return scale
    if (scale.replicas or 1) > 1:
        raise InvalidInputError(
            f"replicas={scale.replicas} needs a Milvus cluster, and {where} is one process; leave "
            "it out, or give the address of a cluster (uri=)"
        )
    if scale.mmap:
        raise InvalidInputError(
            f"mmap=True needs a Milvus server, and {where} maps its vectors without it; leave it "
            "out, or give the address of a server (uri=)"
        )
    ignored = [
        f"{name}={value!r}"
        for name in ("num_shards", "partition_key", "num_partitions")
        if (value := getattr(scale, name)) is not None
    ]
    if ignored:
        logger.info("%s does not split a collection, and ignores %s", where, " and ".join(ignored))
    return Scale()


def _check_nodes(replicas: int | None, connection: Connection, where: str) -> None:
    if (replicas or 1) == 1:
        return
    try:
        group = connection.run(Request("describe_resource_group", _NODES))
    except FiftyOneMilvusError as error:
        # Some users and clouds may not ask; Milvus itself refuses what is impossible
        logger.debug("The number of query nodes is unknown: %s", error)
        return
    nodes = int(group.num_available_node)
    if nodes < (replicas or 1):
        raise InvalidInputError(
            f"replicas={replicas} needs as many query nodes, and {where} has {nodes}; add some, "
            "or ask for fewer replicas"
        )
