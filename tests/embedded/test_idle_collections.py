"""A collection without requests is closed, and the next request finds it as it was."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus import embedded
from tests.embedded.child import connect, count, create, rows, vector
from tests.embedded.served import APPLY, Served
from tests.support.waiting import wait_until

KEY = ("default", "rows")


def close_idle(served: Served) -> bool:
    """Closes what is idle by now; returns whether the collection is closed."""
    served.idle.close(1e-9)  # learns what is open
    time.sleep(0.001)
    served.idle.close(1e-9)
    return KEY not in served.database.opened()


def nearest(client: Any, key: int) -> list[str]:
    (hits,) = client.search("rows", [vector(key)], limit=3, output_fields=["pk"])
    return [hit["pk"] for hit in hits]


def test_it_is_opened_again_as_it_was(served: Served) -> None:
    client = served.client
    client.upsert("rows", rows(range(60)))
    served.flush()
    client.upsert("rows", rows(range(50, 90)))  # in the log, and partly replaced
    client.delete("rows", filter='pk in ["7", "88"]')
    found = [nearest(client, key) for key in (3, 7, 55, 88)]
    memory = weakref.ref(served.database.get_collection("rows"))

    assert close_idle(served)
    assert memory() is None
    assert "Loaded" in str(client.get_load_state("rows"))
    assert client.describe_index("rows", "vector")["index_type"] == "FLAT"
    assert KEY not in served.database.opened()
    assert [nearest(client, key) for key in (3, 7, 55, 88)] == found
    assert count(client) == count(client, "other_name") == 88
    assert close_idle(served)
    client.upsert("rows", rows(range(88, 95)))
    assert count(client) == 94


def test_one_that_was_released_stays_so(served: Served) -> None:
    served.client.release_collection("rows")
    assert close_idle(served)
    assert "NotLoad" in str(served.client.get_load_state("rows"))
    with pytest.raises(Exception, match="released"):
        nearest(served.client, 1)


def test_a_dropped_one_is_forgotten(served: Served) -> None:
    client = served.client
    assert close_idle(served)
    client.drop_alias("other_name")
    client.drop_collection("rows")
    create(client)
    assert not served.database.is_loaded(*KEY)
    assert count(client) == 0


def test_it_stays_open_while_it_is_used(served: Served) -> None:
    client = served.client
    client.upsert("rows", rows(range(20)))
    with served.halted(APPLY) as there:
        writing = served.run(client.upsert, "rows", rows(range(10, 30)))
        assert there.wait(60)
        assert not close_idle(served)
    writing.result(60)
    served.idle.close(60)
    assert KEY in served.database.opened()
    served.idle.close(0)  # never
    assert KEY in served.database.opened()
    assert count(client) == 30


def test_it_stays_open_while_its_index_is_made(served: Served) -> None:
    go_on = threading.Event()
    served.database.get_collection("rows")._bg_executor.submit(go_on.wait, 60)
    assert not close_idle(served)
    go_on.set()
    wait_until(lambda: close_idle(served))


def test_on_a_full_disk_it_stays_open_and_usable(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from milvus_lite.engine import flush

    client = served.client
    client.upsert("rows", rows(range(20)))

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(flush, "write_data_file", full)
        assert not close_idle(served)
        assert count(client) == 20
    client.upsert("rows", rows(range(20, 30)))
    assert close_idle(served)
    assert count(client) == 30


def test_requests_that_come_while_it_is_closed(served: Served) -> None:
    client, done = served.client, threading.Event()
    closed = itertools.count()

    def close() -> None:
        while not done.is_set():
            if close_idle(served):
                next(closed)

    def write(first: int) -> None:
        for start in range(first, first + 60, 3):
            client.upsert("rows", rows(range(start, start + 3)))
            assert str(start) in nearest(client, start)  # at most three rows are equal
            time.sleep(0.002)

    closing = served.run(close)
    try:
        for work in [served.run(write, first) for first in range(0, 240, 60)]:
            work.result(120)
    finally:
        done.set()
        closing.result(60)
    assert next(closed) > 1
    assert count(client) == 240
    assert sorted(row["pk"] for row in client.query("rows", filter='pk != ""')) == sorted(
        map(str, range(240))
    )


def test_a_service_closes_them(data: Path) -> None:
    embedded.ensure(data, lifetime=embedded.Lifetime(close_seconds=0.2))
    client = connect(data)
    create(client)
    client.load_collection("rows")
    client.upsert("rows", rows(range(20)))
    log = data / "service.log"
    wait_until(lambda: "'rows' was not used for 0.2 s: closed" in log.read_text())
    assert count(client) == 20
