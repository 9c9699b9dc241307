"""pymilvus' ORM beside our connections. In processes of their own: it is global state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.support.servers import MilvusServer
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]

SETUP = """
import pymilvus
from fiftyone_milvus.connection import Settings, connect, resolve

def open(**kwargs):
    return connect(resolve(Settings.parse(kwargs), None))

def create(connection, name):
    connection.run(lambda c: c.drop_collection(name, timeout=20))
    schema = connection.client.create_schema()
    schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=2)
    connection.run(lambda c: c.create_collection(name, schema=schema, timeout=20))
"""


def python(script: str, **names: Any) -> str:
    """Runs a script whose stderr stays empty; returns its stdout.

    On a busy machine, a service may take 5 s to start, which is said there.
    """
    values = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::DeprecationWarning",
            "-c",
            values + SETUP + script,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = [line for line in done.stderr.splitlines() if "has not answered for" not in line]
    assert said == []
    assert done.returncode == 0
    return done.stdout


def test_utility_and_collection(engine: Engine) -> None:
    output = python(
        """
connection = open(**kwargs)
create(connection, "orm_utility")
assert connection.register_orm()
assert connection.register_orm()
assert "orm_utility" in pymilvus.utility.list_collections()
collection = connection.collection("orm_utility")
print(type(collection) is pymilvus.Collection, collection.name)
assert "orm_utility" in str(collection)
assert collection.num_entities == 0
collection.insert([{"id": 1, "vector": [0.0, 1.0]}])
collection.flush()
assert collection.num_entities == 1
connection.run(lambda c: c.drop_collection("orm_utility"))
""",
        kwargs=engine.kwargs,
    )
    assert output == "True orm_utility\n"


def test_the_users_own_default_connection_stays(
    milvus_server: MilvusServer, embedded_path: Path
) -> None:
    python(
        """
import warnings
warnings.simplefilter("ignore", FutureWarning)
pymilvus.connections.connect(uri=uri)
warnings.resetwarnings()
theirs = open(uri=uri)
create(theirs, "orm_theirs")
ours = open(uri=path)
create(ours, "orm_ours")
assert not ours.register_orm()
assert "orm_theirs" in pymilvus.utility.list_collections()
assert "orm_ours" not in pymilvus.utility.list_collections()
assert ours.collection("orm_ours").num_entities == 0
theirs.run(lambda c: c.drop_collection("orm_theirs"))
""",
        uri=milvus_server.uri,
        path=str(embedded_path),
    )


def test_the_last_registered_is_the_default(
    milvus_server: MilvusServer, embedded_path: Path
) -> None:
    python(
        """
first, second = open(uri=uri), open(uri=path)
create(first, "orm_first")
create(second, "orm_second")
assert first.register_orm()
held = first.collection("orm_first")
assert second.register_orm()
assert pymilvus.utility.list_collections() == ["orm_second"]
assert held.num_entities == 0
first.run(lambda c: c.drop_collection("orm_first"))
""",
        uri=milvus_server.uri,
        path=str(embedded_path),
    )


def test_the_database_is_respected(milvus_server: MilvusServer) -> None:
    python(
        """
plain = open(uri=uri)
plain.run(lambda c: c.create_database("orm_films", timeout=5))
films = open(uri=uri, db_name="orm_films")
create(films, "orm_only_films")
assert films.register_orm()
assert pymilvus.utility.list_collections() == ["orm_only_films"]
collection = films.collection("orm_only_films")
collection.insert([{"id": 1, "vector": [0.0, 1.0]}])
collection.flush()
assert collection.num_entities == 1
pymilvus.db.using_database("default")
assert "orm_only_films" not in pymilvus.utility.list_collections()
films.run(lambda c: c.drop_collection("orm_only_films"))
""",
        uri=milvus_server.uri,
    )


CONNECT = """
import os, warnings

def theirs(**kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pymilvus.connections.connect("default", **kwargs)
"""


def test_the_users_connect_after_ours(engine: Engine, milvus_server: MilvusServer) -> None:
    """It neither fails nor goes where we are; and we never take the alias back."""
    python(
        CONNECT
        + """
ours = open(**kwargs)
create(ours, "orm_ours")
assert ours.register_orm()
theirs(uri=uri, db_name="default")
create(open(uri=uri), "orm_theirs")
assert "orm_theirs" in pymilvus.utility.list_collections()
assert not ours.register_orm()
assert "orm_theirs" in pymilvus.utility.list_collections()
assert ours.collection("orm_ours").num_entities == 0
pymilvus.utility.drop_collection("orm_theirs")
assert "orm_theirs" not in open(uri=uri).client.list_collections()
assert "orm_ours" in ours.client.list_collections()
ours.run(lambda c: c.drop_collection("orm_ours"))
""",
        kwargs=engine.kwargs,
        uri=milvus_server.uri,
    )


def test_a_connect_without_an_address_goes_where_it_would_without_us(
    embedded_path: Path, milvus_server: MilvusServer
) -> None:
    """pymilvus keeps an address for each alias: its default, or one that the user configured."""
    host, port = milvus_server.uri.removeprefix("http://").split(":")
    output = python(
        CONNECT
        + """
ours = open(uri=path)
create(ours, "orm_ours")
connections = pymilvus.connections
warnings.simplefilter("ignore", FutureWarning)
warnings.simplefilter("ignore", DeprecationWarning)
kept = dict(connections.get_connection_addr("default"))
assert ours.register_orm()
assert pymilvus.utility.list_collections() == ["orm_ours"]
assert dict(connections.get_connection_addr("default")) == kept
connections.add_connection(default={"host": host, "port": port})
theirs()
print("orm_ours" in pymilvus.utility.list_collections())
assert not ours.register_orm()
connections.disconnect("default")
assert not ours.register_orm()
""",
        path=str(embedded_path),
        host=host,
        port=port,
    )
    assert output == "False\n"


def test_no_such_collection(milvus_server: MilvusServer) -> None:
    from fiftyone_milvus.connection import Settings, connect, resolve
    from fiftyone_milvus.errors import CollectionNotFoundError

    connection = connect(resolve(Settings.parse(milvus_server.kwargs), None))
    with pytest.raises(CollectionNotFoundError, match="nowhere"):
        connection.collection("nowhere")


def test_a_pymilvus_without_orm(milvus_server: MilvusServer) -> None:
    """As from 3.1 on: the names are gone, and we neither need nor miss them."""
    output = python(
        """
del pymilvus.Collection, pymilvus.utility, pymilvus.connections
import sys
sys.modules["pymilvus.utility"] = None
connection = open(uri=uri)
assert connection.run(lambda c: c.list_collections()) is not None
assert not connection.register_orm()
try:
    connection.collection("any")
except ValueError as error:
    print(error)
""",
        uri=milvus_server.uri,
    )
    assert "use 'index.client'" in output
