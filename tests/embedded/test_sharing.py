"""Many processes on one collection."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
from typing import Any

import numpy as np
import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded import services
from tests.embedded.child import DIMENSION, connect, count, create, rows, vector, work
from tests.embedded.support import gone
from tests.support.waiting import PATIENCE, wait_until


def content(client: Any) -> dict[int, list[float]]:
    found = client.query("rows", filter="", output_fields=["pk", "vector"])
    return {int(row["pk"]): list(map(float, row["vector"])) for row in found}


def test_killed_in_the_middle_of_an_upload_no_acknowledged_row_is_lost(data, child):
    create(connect(data))
    uploader = child("upload", data, stderr=subprocess.DEVNULL)
    assert uploader.stdout.readline() == "here\n"
    for _ in range(10):
        uploader.stdout.readline()
    pid = embedded.status(data).pid

    os.kill(pid, signal.SIGKILL)
    said, _ = uploader.communicate(timeout=PATIENCE)
    wait_until(lambda: gone(pid))

    acknowledged = int(said.split()[-1]) if said.split() else 500
    assert acknowledged >= 500
    client = connect(data)
    client.load_collection("rows")
    found = content(client)
    # The batch that was under way may be there too, whole or in part: it was not refused.
    assert acknowledged <= count(client) == len(found) <= acknowledged + 50
    assert {key: found[key] for key in range(acknowledged)} == {
        key: vector(key) for key in range(acknowledged)
    }
    client.upsert("rows", rows(range(acknowledged, acknowledged + 50)))
    assert count(client) == acknowledged + 50


def test_writers_on_one_collection_do_not_disturb_each_other(data, child):
    create(connect(data))
    # The collection must be opened again, and all ask for it at once.
    embedded.stop(data)
    writers = [child("write", data, first, first + 300) for first in (0, 150, 300)]
    for writer in writers:
        assert writer.stdout.readline() == "here\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.stdout.readline() for writer in writers] == ["done\n"] * 3

    client = connect(data)
    client.load_collection("rows")
    found = content(client)
    # Neighbors overlap by half: a row that one deletes, the other may have put back.
    assert {key for key in range(600) if key % 10} <= set(found)
    assert set(found) <= set(range(600))
    assert count(client) == len(found)
    embedded.stop(data)
    client = connect(data)
    client.load_collection("rows")
    assert content(client) == found


def test_a_reader_during_writes_misses_nothing_acknowledged(data):
    create(connect(data))
    acknowledged, finished = [0], threading.Event()

    def write() -> None:
        client = connect(data)
        for start in range(0, 4000, 200):
            client.upsert("rows", rows(range(start, start + 200)))
            acknowledged[0] = start + 200
            client.flush("rows")
        finished.set()

    writer = threading.Thread(target=write)
    client = connect(data)
    client.load_collection("rows")
    writer.start()
    seen = []
    while not finished.is_set():
        before = acknowledged[0]
        seen.append((before, count(client)))
        hits = client.search("rows", [vector(0)], limit=1, output_fields=["pk"])
        assert not before or hits[0][0]["distance"] == 0
    writer.join()

    assert len(seen) > 5
    assert [pair for pair in seen if pair[1] < pair[0]] == []
    assert count(client) == 4000


def test_reads_during_a_big_write_see_all_or_nothing_of_it(data):
    client = connect(data)
    create(client, "rows")
    create(client, "others")
    client.upsert("others", rows(range(10)))
    big = threading.Thread(target=lambda: connect(data).upsert("rows", rows(range(20_000))))
    big.start()

    while big.is_alive():
        assert count(client, "others") == 10
        assert count(client) in (0, 20_000)
    big.join()
    assert count(client) == 20_000


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_search_and_write(data, method):
    pid = embedded.ensure(data).pid
    client = connect(data)
    create(client)
    client.upsert("rows", rows(range(10)))

    context = multiprocessing.get_context(method)
    results = context.Queue()
    workers = [
        context.Process(target=work, args=(data, key, results), daemon=True) for key in (10, 20)
    ]
    for worker in workers:
        worker.start()
    said = [results.get(timeout=PATIENCE) for _ in workers]
    for worker in workers:
        worker.join(PATIENCE)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert said == [("3", pid)] * 2
    wait_until(lambda: embedded.status(data).clients == 1)
    assert embedded.ensure(data).pid == pid
    assert count(client) == 20


def test_a_forked_child_neither_breaks_nor_keeps_its_parents_connection(data, monkeypatch):
    monkeypatch.setenv("FIFTYONE_MILVUS_GRACE_SECONDS", "0.5")
    pid = embedded.ensure(data).pid
    reader, writer = os.pipe()
    idle = os.fork()
    if not idle:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        assert embedded.status(data).clients == 1
        grandchild = os.fork()
        if not grandchild:
            os._exit(0 if embedded.ensure(data).pid == pid else 1)
        assert os.waitpid(grandchild, 0)[1] == 0
        wait_until(lambda: embedded.status(data).clients == 1)

        # The parent goes; the idle child, which never asked for anything, does not hold it.
        services._process.drop(data)
        wait_until(lambda: gone(pid))
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(idle, 0)


def test_vectors_come_back_bit_exact(data):
    client = connect(data)
    create(client)
    values = np.random.default_rng(0).normal(size=(50, DIMENSION)).astype(np.float32)
    client.upsert("rows", [{"pk": str(key), "vector": row} for key, row in enumerate(values)])

    found = content(client)

    assert np.array_equal(np.float32([found[key] for key in range(50)]), values)
