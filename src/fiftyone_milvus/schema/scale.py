"""How a new collection is spread over a Milvus: shards, replicas, memory maps, partitions.

What says only how Milvus lays rows out is ignored with a line in the log where an engine can't:
answers are the same. What changes what the user gets is refused: without replicas there is no copy
when a node is lost, and without a memory map the vectors may not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.schema.columns import Column, Kind

logger = logging.getLogger(__name__)

MMAP = "mmap.enabled"
"""The property of collections and indexes that Milvus maps into memory instead of loading."""

MAX_SHARDS = 16
MAX_PARTITIONS = 1_024

_MMAP_INDEXES = (
    "FLAT",
    "IVF_FLAT",
    "IVF_SQ8",
    "IVF_PQ",
    "HNSW",
    "HNSW_SQ",
    "HNSW_PQ",
    "HNSW_PRQ",
)
_NODES = "__default_resource_group"


@dataclass(frozen=True)
class Scale:
    """How a new collection is spread; None leaves something to Milvus.

    Attributes:
        num_shards: into how many channels its writes are split
        replicas: how many query nodes hold each row in memory
        mmap: whether vectors and index are mapped from disk
        partition_key: the FiftyOne field by whose values rows are kept apart
        num_partitions: into how many partitions these values are hashed
    """

    num_shards: int | None = None
    replicas: int | None = None
    mmap: bool | None = None
    partition_key: str | None = None
    num_partitions: int | None = None

    def for_index(self, index_type: str) -> dict[str, str]:
        """Returns what a vector index has to be told."""
        # Milvus 2.4 wants it said of the index too; DISKANN and those of a GPU can't
        if self.mmap is None or index_type not in _MMAP_INDEXES:
            return {}
        return {MMAP: str(self.mmap).lower()}


def check_scale(scale: Scale, fields: Sequence[str] | None) -> Scale:
    """Checks the parameters of a config, without Milvus or a dataset.

    Args:
        scale: what the user gave
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
    if scale.mmap is not None and not isinstance(scale.mmap, bool):
        raise InvalidInputError(f"Invalid mmap {scale.mmap!r}; expected True or False")
    key = scale.partition_key
    if key is None:
        if scale.num_partitions is not None:
            raise InvalidInputError(
                f"num_partitions={scale.num_partitions} says nothing without a partition_key; "
                "give one of fields, or leave it out"
            )
    elif key not in (fields or ()):
        raise InvalidInputError(
            f"Invalid partition_key {key!r}; expected one of fields, which are "
            f"{list(fields or ()) or 'none'}"
        )
    return scale


def check_partition_key(scale: Scale, columns: Sequence[Column]) -> None:
    """Checks that the values of a field can tell partitions apart.

    Raises:
        InvalidInputError: if it holds something else than strings or integers
    """
    for column in columns:
        if column.path == scale.partition_key and column.kind not in (Kind.STRING, Kind.INT):
            raise InvalidInputError(
                f"partition_key={column.path!r} is a {column.kind.value}; expected a field of "
                "strings or integers"
            )


def fitted(scale: Scale, connection: Connection) -> Scale:
    """Returns what an engine can do of what the user asked for.

    Raises:
        InvalidInputError: if it can't give what would be missed
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
            f"mmap=True needs a Milvus server, and {where} keeps all vectors in memory; leave it "
            "out, or give the address of a server (uri=)"
        )
    ignored = [
        f"{name}={value!r}"
        for name in ("num_shards", "partition_key", "num_partitions")
        if (value := getattr(scale, name)) is not None
    ]
    if ignored:
        logger.info(
            "%s keeps a collection in one piece: %s changes nothing there",
            where,
            " and ".join(ignored),
        )
    return Scale()


def _check_nodes(replicas: int | None, connection: Connection, where: str) -> None:
    if (replicas or 1) == 1:
        return
    try:
        group = connection.run(lambda c: c.describe_resource_group(_NODES))
    except FiftyOneMilvusError as error:
        # This user may not ask, or a cloud does not say; Milvus will refuse if it must
        logger.debug("The number of query nodes is not known: %s", error)
        return
    nodes = int(group.num_available_node)
    if nodes < (replicas or 1):
        raise InvalidInputError(
            f"replicas={replicas} needs as many query nodes, and {where} has {nodes}; add some, "
            "or ask for fewer replicas"
        )
