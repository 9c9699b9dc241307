"""What can't be served says so in one line, at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded import database, services
from fiftyone_milvus.errors import EmbeddedServiceError, InvalidInputError
from tests.support.processes import freeze


def refused(path: Path, **options: float) -> str:
    began = time.monotonic()
    with pytest.raises(EmbeddedServiceError) as caught:
        embedded.ensure(path, **options)
    assert time.monotonic() - began < services._START_SECONDS, "it waited until the time was over"
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_regular_file(tmp_path):
    file = tmp_path / "old.db"
    file.write_bytes(b"Milvus Lite 2.x")

    assert "is a regular file, not a Milvus Lite directory" in refused(file)
    assert file.read_bytes() == b"Milvus Lite 2.x"


def test_directory_of_other_things(tmp_path):
    (tmp_path / "photo.jpg").touch()

    assert "holds other files, such as 'photo.jpg'" in refused(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.jpg"]


def test_directory_below_a_file(tmp_path):
    (tmp_path / "file").touch()

    assert "Not a directory" in refused(tmp_path / "file" / "data.db")


def test_unwritable_directory(tmp_path):
    # Permissions do not hold root back, a kernel's file system does.
    parent = Path("/sys") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid():
        parent.mkdir(mode=0o500)

    message = refused(parent / "data.db")
    assert "not permitted" in message or "denied" in message or "Read-only" in message


def test_directory_that_another_process_opened(data, child):
    holder = child("hold", data)
    assert holder.stdout.readline() == "held\n"

    assert f"data directory is locked by process {holder.pid}: " in refused(data)

    holder.communicate("go\n")
    embedded.ensure(data)


@pytest.mark.parametrize("known", [True, False])
def test_a_holder_that_ends_meanwhile_is_no_error(data, child, monkeypatch, known):
    """It ends after the lock was refused, and before it is asked who holds it."""
    holder = child("hold", data)
    assert holder.stdout.readline() == "held\n"

    def end(_):
        holder.communicate("go\n")
        return holder.pid if known else None

    monkeypatch.setattr(database.processes, "lock_holder", end)
    database.open_database(data).close()


def test_directory_that_milvus_lite_opened_in_this_process(data):
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import MilvusClient

    MilvusClient(str(data)).close()
    message = refused(data)
    assert f"'{data}' is open in this process" in message
    remedy = f"server_manager_instance.release_server('{data}')"
    assert remedy in message

    eval(remedy, {"server_manager_instance": server_manager_instance})
    embedded.ensure(data)


def test_service_that_does_not_answer(data):
    pid = embedded.ensure(data).pid
    services._process.drop(data)
    freeze(pid)
    try:
        assert f"does not answer; process {pid} is stopped: 'kill -CONT {pid}'" in refused(
            data, timeout=1
        )
    finally:
        os.kill(pid, signal.SIGCONT)

    assert embedded.ensure(data).pid == pid


def test_service_file_that_was_damaged(data):
    embedded.ensure(data)
    embedded.stop(data)
    (data / "service.json").write_text("{half")

    embedded.ensure(data)


@pytest.mark.parametrize("variable", ["IDLE", "GRACE"])
def test_environment_that_is_no_number(data, monkeypatch, variable):
    monkeypatch.setenv(f"FIFTYONE_MILVUS_{variable}_SECONDS", "ten")

    with pytest.raises(InvalidInputError, match="is 'ten'; expected a number of seconds"):
        embedded.ensure(data)
