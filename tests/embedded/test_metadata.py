"""To list and describe collections opens none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import Connection, Settings, resolve
from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.inventory import collections
from tests.embedded.child import count

ROWS, DIM = 6_000, 512
VECTOR_BYTES = ROWS * DIM * 4


def _write(path: Path) -> None:
    """Two collections in sealed segments: one without an index, one with an index and an alias."""
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIM)).tolist()
    schema = CollectionSchema(
        fields=[
            FieldSchema(name="pk", dtype=DataType.VARCHAR, max_length=24, is_primary=True),
            FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=DIM),
        ]
    )
    database = Database(str(path))
    for name, rows in (("plain", 10), ("sibling", ROWS)):
        collection = database.create_collection(name, schema)
        collection.insert([{"pk": f"{i:024x}", "vector": vectors[i]} for i in range(rows)])
        collection.flush()
    collection.create_index("vector", {"index_type": "FLAT", "metric_type": "COSINE"})
    database.create_alias("sibling", "other_name")
    database.close()


def test_a_list_reads_no_rows(data: Path) -> None:
    _write(data)
    pid = embedded.ensure(data).pid
    connection = Connection(resolve(Settings.parse({"uri": str(data)}), None))
    client: Any = connection.client
    process = psutil.Process(pid)
    client.list_collections()
    before = process.memory_info().rss

    found = collections(connection)

    assert [(c.name, c.vectors, c.dimension) for c in found] == [
        ("plain", 10, DIM),
        ("sibling", ROWS, DIM),
    ]
    closed = _described(client)
    assert process.memory_info().rss - before < VECTOR_BYTES / 2

    # Open, they say the same; this is what opening takes
    client.load_collection("sibling")
    client.load_collection("plain")
    assert count(client, "sibling") == ROWS
    assert process.memory_info().rss - before > VECTOR_BYTES / 2
    client.release_collection("sibling")
    assert _described(client) == closed
    assert not client.has_collection("gone")
    connection.close()


def _described(client: Any) -> list[Any]:
    facts = []
    for name in ("plain", "sibling", "other_name"):
        facts += [
            client.describe_collection(name),
            client.list_indexes(name),
            client.describe_index(name, "vector"),
            client.get_load_state(name),
            client.get_collection_stats(name),
            client.list_partitions(name),
            client.has_partition(name, "_default"),
        ]
    return facts
