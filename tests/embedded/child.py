"""Client processes of the tests: ``python child.py COMMAND PATH ...``.

Each says on standard output what it did, a line at a time, so that a test knows what had been
acknowledged when it killed something.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from fiftyone_milvus import embedded

DIMENSION = 16


def vector(key: int) -> list[float]:
    """The vector of a row, from its key alone."""
    return [float((key * 31 + position * 17) % 101) for position in range(DIMENSION)]


def connect(path: str | Path) -> Any:
    from pymilvus import MilvusClient

    endpoint = embedded.ensure(path)
    # Not pymilvus' shared one, which outlives a fork and a service in ways of its own.
    return MilvusClient(endpoint.address, token=endpoint.token, dedicated=True)


def create(client: Any, name: str = "rows") -> None:
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("pk", DataType.VARCHAR, max_length=64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    index = MilvusClient.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index)


def rows(keys: range) -> list[dict[str, Any]]:
    return [{"pk": str(key), "vector": vector(key)} for key in keys]


def count(client: Any, name: str = "rows") -> int:
    return client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"]


def say(*words: object) -> None:
    print(*words, flush=True)


def attach(path: str, seconds: str = "60") -> None:
    """Attaches and stays until killed."""
    say(embedded.ensure(path).pid)
    time.sleep(float(seconds))


def race(path: str) -> None:
    """Imports everything, waits for the start, attaches, stays until told to go."""
    say("here")
    sys.stdin.readline()
    endpoint = embedded.ensure(path)
    say(endpoint.pid, endpoint.address, endpoint.token)
    sys.stdin.readline()


def upload(path: str, batch: str = "50") -> None:
    """Upserts batch after batch until killed or refused; says how many rows were acknowledged."""
    client = connect(path)
    size, acknowledged = int(batch), 0
    say("here")
    while True:
        client.upsert("rows", rows(range(acknowledged, acknowledged + size)))
        acknowledged += size
        say(acknowledged)


def write(path: str, first: str, last: str) -> None:
    """Upserts the rows from first to last twice, once with other vectors; deletes every tenth."""
    client = connect(path)
    say("here")
    sys.stdin.readline()
    keys = range(int(first), int(last))
    for start in range(keys.start, keys.stop, 40):
        part = range(start, min(start + 40, keys.stop))
        stale = [{"pk": str(key), "vector": [0.0] * DIMENSION} for key in part]
        client.upsert("rows", stale)
        client.upsert("rows", rows(part))
        client.delete("rows", filter=f'pk in ["{part.start}"]')
    say("done")


def work(path: str | Path, key: int, results: Any) -> None:
    """Searches and writes once; for ``multiprocessing``."""
    client = connect(path)
    hits = client.search("rows", [vector(3)], limit=1, output_fields=["pk"])
    client.upsert("rows", rows(range(key, key + 5)))
    results.put((hits[0][0]["pk"], embedded.status(path).pid))
    client.close()


def hold(path: str) -> None:
    """Opens the directory directly, as ``MilvusClient("....db")`` does."""
    from milvus_lite.db import MilvusLite

    with MilvusLite(path):
        say("held")
        sys.stdin.readline()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
