"""Starting, finding, ending and restarting the service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded import services
from fiftyone_milvus.embedded.lifetime import Activity
from fiftyone_milvus.errors import EmbeddedServiceError
from tests.embedded.child import connect, count, create, rows
from tests.embedded.support import gone, service_pids
from tests.support.waiting import PATIENCE, wait_until


def test_processes_that_race_to_start_get_one_service(data, child):
    racers = [child("race", data) for _ in range(4)]
    for racer in racers:
        assert racer.stdout.readline() == "here\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()

    answers = {racer.stdout.readline() for racer in racers}

    assert len(answers) == 1
    assert service_pids(data) == [int(answers.pop().split()[0])]
    assert embedded.status(data).clients == 4


def test_threads_that_race_to_start_get_one_service_and_one_connection(data):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        endpoints = set(pool.map(lambda _: embedded.ensure(data), range(8)))

    assert len(endpoints) == 1
    assert embedded.status(data).clients == 1


def test_the_status_of_a_service_of_a_later_version_is_read(data, monkeypatch):
    embedded.ensure(data)
    real = services.ask
    with monkeypatch.context() as patch:
        patch.setattr(services, "ask", lambda *args: {**real(*args), "added_later": 1})
        assert embedded.status(data).clients == 1


def test_a_known_service_is_neither_asked_nor_looked_for(data, monkeypatch):
    endpoint = embedded.ensure(data)
    with monkeypatch.context() as patch:
        for name in ("attach", "ask", "launch"):
            patch.setattr(services, name, None)

        assert embedded.ensure(data) == endpoint


def test_threads_without_work_sleep_unless_the_user_wants_otherwise(data, monkeypatch):
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    found = psutil.Process(embedded.ensure(data).pid).environ()
    assert found["OPENBLAS_THREAD_TIMEOUT"] == "4"
    assert found["OMP_WAIT_POLICY"] == "active"


def test_matrix_products_are_not_divided_among_more_threads(data, monkeypatch):
    # Whatever is set for the programs that use the service
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    assert psutil.Process(embedded.ensure(data).pid).environ()["OPENBLAS_NUM_THREADS"] == "1"


def test_service_loads_neither_fiftyone_nor_pandas(data):
    # Of their compiled parts, which the system lists; each is loaded where its package is.
    endpoint = embedded.ensure(data)
    mapped = " ".join(entry.path for entry in psutil.Process(endpoint.pid).memory_maps())

    assert "pyarrow" in mapped
    for package in ("pandas", "cv2", "bson", "pymongo"):
        assert f"/{package}/" not in mapped


def test_address_and_rows_survive_restarts(data):
    before = embedded.ensure(data)
    client = connect(data)
    create(client)
    client.upsert("rows", rows(range(20)))

    assert embedded.stop(data)
    wait_until(lambda: gone(before.pid))
    after = embedded.ensure(data)

    assert after.pid != before.pid
    assert after.address == before.address
    assert after.token != before.token
    client = connect(data)
    client.load_collection("rows")
    assert count(client) == 20


def test_killed_service_is_noticed_and_started_again(data):
    before = embedded.ensure(data)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: gone(before.pid))

    after = embedded.ensure(data)

    assert after.pid != before.pid
    assert after.address == before.address
    assert after.token != before.token
    assert service_pids(data) == [after.pid]


def test_sigterm_lets_running_requests_end(data, child):
    create(connect(data))
    uploader = child("upload", data, 2000, stderr=subprocess.DEVNULL)
    assert uploader.stdout.readline() == "here\n"
    assert uploader.stdout.readline() == "2000\n"
    pid = embedded.status(data).pid

    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: gone(pid))
    said, _ = uploader.communicate()  # it ends when the service no longer answers

    acknowledged = int(said.split()[-1]) if said.split() else 2000
    client = connect(data)
    client.load_collection("rows")
    assert count(client) == acknowledged


def test_idle_service_ends_and_the_next_call_starts_it(data, runtime):
    lifetime = embedded.Lifetime(idle_seconds=0.5)
    pid = embedded.ensure(data, lifetime=lifetime).pid

    wait_until(lambda: gone(pid))

    assert embedded.status(data) is None
    assert list(runtime.iterdir()) == []
    assert embedded.ensure(data).pid != pid


class Clock:
    """Stands in for ``time`` in a module."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_requests_and_clients_keep_a_service(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fiftyone_milvus.embedded.lifetime.time", clock)
    activity = Activity()
    limits = embedded.Lifetime(idle_seconds=60, grace_seconds=20)
    forever = embedded.Lifetime(idle_seconds=0, grace_seconds=-1)

    def reason(seconds: float) -> str | None:
        clock.now += seconds
        assert activity.reason_to_end(forever) is None
        return activity.reason_to_end(limits)

    assert reason(19) is None  # no client has attached yet
    assert reason(2) == "no client process left"
    activity.client_came()
    assert activity.clients == 1
    assert reason(59) is None
    activity.request_began()
    assert reason(1000) is None
    assert activity.idle_seconds() == 0
    activity.request_ended()
    assert reason(59) is None
    assert activity.idle_seconds() == 59
    assert reason(2) == "idle for 60 s"
    activity.client_came()
    activity.client_left()
    assert reason(30) is None
    activity.client_left()
    assert reason(19) is None
    activity.client_came()  # within the grace
    assert reason(30) is None
    activity.client_left()
    assert reason(21) == "no client process left"


def test_idle_seconds_come_from_the_environment(data, monkeypatch):
    monkeypatch.setenv("FIFTYONE_MILVUS_IDLE_SECONDS", "0.3")
    pid = embedded.ensure(data).pid

    wait_until(lambda: gone(pid))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_service_ends_with_its_last_client(data, child, monkeypatch, end):
    monkeypatch.setenv("FIFTYONE_MILVUS_GRACE_SECONDS", "0.5")
    first, second = child("attach", data), child("attach", data)
    pid = int(first.stdout.readline())
    assert int(second.stdout.readline()) == pid

    first.send_signal(end)
    first.wait()
    wait_until(lambda: embedded.status(data).clients == 1)

    second.send_signal(end)
    second.wait()
    wait_until(lambda: gone(pid))


def test_client_that_comes_within_the_grace_keeps_the_service(data, child, monkeypatch):
    monkeypatch.setenv("FIFTYONE_MILVUS_GRACE_SECONDS", "60")
    first = child("attach", data)
    pid = int(first.stdout.readline())
    first.kill()
    first.wait()
    wait_until(lambda: embedded.status(data).clients == 0)

    assert embedded.ensure(data).pid == pid
    assert embedded.status(data).clients == 1


def test_service_outlives_its_starter_without_its_pipes_and_session(data, child):
    # With the pipes held, this would wait for the service's end.
    starter = child("attach", data, 0, stderr=subprocess.PIPE, start_new_session=True)
    said, complained = starter.communicate(timeout=PATIENCE)
    pid = int(said)

    assert complained == ""
    assert os.getsid(pid) not in (starter.pid, os.getsid(0))
    assert not gone(pid)


def test_ctrl_c_in_the_starter_does_not_reach_the_service(data, child):
    starter = child("attach", data, start_new_session=True, stderr=subprocess.DEVNULL)
    pid = int(starter.stdout.readline())
    embedded.ensure(data)

    os.killpg(starter.pid, signal.SIGINT)
    starter.wait()
    wait_until(lambda: embedded.status(data).clients == 1)

    assert embedded.status(data).pid == pid


def test_status_stop_and_list(data, tmp_path):
    assert embedded.status(data) is None
    assert embedded.stop(data) is False
    assert embedded.list_services() == []
    assert not data.exists()

    endpoint = embedded.ensure(data)
    create(connect(data))
    status = embedded.status(data)

    assert (status.path, status.pid, status.address) == (data, endpoint.pid, endpoint.address)
    assert (status.clients, status.collections) == (1, 1)
    assert 0 <= status.idle_seconds <= status.uptime_seconds < 60
    assert status.rss_bytes == pytest.approx(
        psutil.Process(endpoint.pid).memory_info().rss, rel=0.2
    )
    assert [service.path for service in embedded.list_services()] == [data]

    assert embedded.stop(data) is True
    assert embedded.status(data) is None
    assert embedded.list_services() == []


def test_one_directory_under_several_spellings_is_one_service(data, tmp_path, monkeypatch):
    endpoint = embedded.ensure(data)
    link = tmp_path / "link.db"
    link.symlink_to(data)
    monkeypatch.chdir(tmp_path)

    assert embedded.ensure(link) == endpoint
    assert embedded.ensure("data.db") == endpoint
    assert embedded.ensure(str(tmp_path / "." / "data.db")) == endpoint


def test_explicit_service_stays_without_clients(data):
    embedded.serve(data, foreground=False)
    status = embedded.status(data)

    assert status.clients == 0
    with pytest.raises(EmbeddedServiceError, match=f"served already, by process {status.pid}"):
        embedded.serve(data, foreground=False)

    assert embedded.ensure(data).pid == status.pid
    services._process.drop(data)
    wait_until(lambda: embedded.status(data).clients == 0)
    assert embedded.status(data).pid == status.pid


def test_foreground_service_logs_to_the_terminal_and_ends_on_ctrl_c(data, tmp_path):
    command = [sys.executable, "-m", "fiftyone_milvus.embedded", "--path", str(data)]
    with (tmp_path / "terminal").open("wb") as terminal:
        service = subprocess.Popen(command, stderr=terminal)
    try:
        wait_until(lambda: embedded.status(data) is not None)
        assert embedded.status(data).pid == service.pid
        service.send_signal(signal.SIGINT)
        assert service.wait(PATIENCE) == 0
    finally:
        service.kill()
    assert "serving" in (tmp_path / "terminal").read_text()
    assert not (data / "service.log").exists()


def test_deleted_directory_ends_its_service_and_stays_deleted(data):
    before = embedded.ensure(data)
    client = connect(data)
    create(client)
    client.upsert("rows", rows(range(20)))

    shutil.rmtree(data)
    wait_until(lambda: gone(before.pid))

    assert not data.exists()
    after = embedded.ensure(data)
    assert after.token != before.token
    assert connect(data).list_collections() == []


def test_moved_directory_keeps_its_rows(data, tmp_path):
    client = connect(data)
    create(client)
    client.upsert("rows", rows(range(20)))
    pid = embedded.status(data).pid

    moved = tmp_path / "moved.db"
    data.rename(moved)
    wait_until(lambda: gone(pid))
    try:
        client = connect(moved)
        client.load_collection("rows")
        assert count(client) == 20
    finally:
        embedded.stop(moved)


def test_copied_directory_has_a_service_of_its_own(data, tmp_path):
    first = embedded.ensure(data)
    copy = tmp_path / "copy.db"
    shutil.copytree(data, copy)
    try:
        second = embedded.ensure(copy)
        assert second.pid != first.pid
        assert second.address != first.address
        assert second.token != first.token
    finally:
        embedded.stop(copy)


def test_log_is_bounded(data):
    embedded.ensure(data)
    log = data / "service.log"
    with log.open("a") as stream:
        stream.write("x" * (2 << 20))

    wait_until(lambda: log.stat().st_size < 1 << 20)

    embedded.stop(data)
    assert "ended" in log.read_text()


def test_default_path_is_next_to_fiftyones_database(monkeypatch, tmp_path):
    import fiftyone as fo

    monkeypatch.setattr(fo.config, "database_dir", str(tmp_path / "var" / "mongo"))
    assert embedded.default_path() == tmp_path / "var" / "milvus" / "fiftyone.db"

    monkeypatch.setenv("FIFTYONE_MILVUS_PATH", str(tmp_path / "else.db"))
    assert embedded.default_path() == tmp_path / "else.db"


@pytest.mark.parametrize("options", [["-P"], ["-I"], []], ids=["safe path", "isolated", "variable"])
def test_the_service_finds_packages_where_its_starter_does(data, tmp_path, options):
    """Neither loses a folder of the user's, nor takes the one that the user keeps out."""
    if options and sys.version_info < (3, 11) and "-P" in options:
        pytest.skip("Python 3.11 has -P first")
    folder = tmp_path / "mine"
    folder.mkdir()
    # Imported by each Python that looks there for packages
    marker = tmp_path / "marker"
    (folder / "sitecustomize.py").write_text(
        f"import sys\nopen({str(marker)!r}, 'a').write(' '.join(sys.argv) + '\\n')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(folder)}
    if not options:
        env["PYTHONSAFEPATH"] = "1"
    code = (
        "import sys; from fiftyone_milvus import embedded; print(embedded.ensure(sys.argv[1]).pid)"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", code, str(data)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    command = psutil.Process(int(done.stdout)).cmdline()
    service = command[1 : command.index("--announce") - 1]
    assert ("-I" in service) == (options == ["-I"])
    looked = "-P" in options or not options
    assert marker.exists() == looked


def test_no_folder_of_the_users_is_taken_off_the_path(tmp_path):
    """A Python that does not put the program's own folder first has another one there."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "real = os._exit\n"
        "def leave(code):\n"
        "    print('PATH', *sys.path, sep='|', flush=True)\n"
        "    real(code)\n"
        "os._exit = leave\n"
    )
    main = embedded.__file__.replace("__init__.py", "__main__.py")
    file = tmp_path / "a-file.db"
    file.write_text("")
    for extra in ({}, {"PYTHONSAFEPATH": "1"}):
        done = subprocess.run(
            [sys.executable, main, "--path", str(file)],
            env={**os.environ, "PYTHONPATH": str(folder), **extra},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        path = done.stdout.rpartition("PATH|")[2].strip().split("|")
        assert str(folder) in path, done.stderr
        assert os.path.dirname(main) not in path


def test_sockets_that_a_cleaner_removed_are_made_again(data, runtime):
    before = embedded.ensure(data)
    client = connect(data)
    create(client)
    client.upsert("rows", rows(range(20)))

    shutil.rmtree(runtime)
    services._process.drop(data)  # as a new process, which finds no service
    after = embedded.ensure(data)

    assert after.pid != before.pid
    assert gone(before.pid)
    assert after.address == before.address
    client = connect(data)
    client.load_collection("rows")
    assert count(client) == 20
    assert [service.pid for service in embedded.list_services()] == [after.pid]
    # Without its entry, it is not listed until it has written that again
    next(runtime.glob("*.json")).unlink()
    wait_until(embedded.list_services)
