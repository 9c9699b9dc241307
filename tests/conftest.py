"""A private FiftyOne, MongoDB and Milvus for every test process."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import environment
from tests.support.mongo import Mongo
from tests.support.scheduling import ByFile
from tests.support.servers import Kind, MilvusServer

pytest_plugins = ["tests.support.fixtures"]


def _private_mongo(root: Path) -> tuple[str, Mongo | None]:
    """Returns the address of the MongoDB of this test run, and itself if this process starts it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The process that started this one has left its own here
        return os.environ["FIFTYONE_DATABASE_URI"], None
    mongo = Mongo(root / "mongo")
    return mongo.uri, mongo


# Sockets are below it, whose paths can't be long
_ROOT = Path(tempfile.mkdtemp(prefix="fom-"))
_URI, _MONGO = _private_mongo(_ROOT)
_NOWHERE = environment.isolate(_ROOT, _URI)

# Every run tries other examples. One that fails is printed, and kept as an @example of its test
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tests")

# FiftyOne's import leaves 280,000 objects, which Python would look through again and again
gc.set_threshold(20_000, 20, 50)

# A shell's background job ignores Ctrl-C, and so would the processes that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # One seed for all processes of this run; PYTEST_ARGS="--hypothesis-seed=..." repeats it
    if not hasattr(config, "workerinput") and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.getrandbits(32))


def pytest_report_header(config: pytest.Config) -> str:
    return f"Hypothesis: --hypothesis-seed={config.option.hypothesis_seed}"


_NO_MILVUS = importlib.util.find_spec("milvus") is None
_SERVERS = {"milvus_servers", "make_server"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    app = f"{Path(__file__).parent / 'app'}{os.sep}"

    def possible(item: Any) -> bool:
        if str(item.path).startswith(app):
            return environment.browser() is not None
        params = item.callspec.params if hasattr(item, "callspec") else {}
        server = params.get("engine") == "server" or bool(_SERVERS & {*item.fixturenames})
        return not (server and _NO_MILVUS)

    found = [(item, possible(item)) for item in items]
    config.hook.pytest_deselected(items=[item for item, can in found if not can])
    items[:] = [item for item, can in found if can]
    _start_early(items)


def _start_early(items: list[pytest.Item]) -> None:
    """Has what mostly waits, for minutes, run beside the others instead of after them."""
    waits = [item for item in items if item.nodeid.startswith("tests/syncing/test_ray.py")]
    others = [item for item in items if item not in waits]
    at = next((i for i, item in enumerate(others) if item.nodeid.startswith("tests/faults/")), None)
    if at is not None:
        items[:] = [*others[:at], *waits, *others[at:]]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    say = terminalreporter.write_line
    if environment.browser() is None:
        say(
            "The App's tests were skipped: no browser; install chromium, or run "
            ".venv/bin/playwright install chromium"
        )
    if _NO_MILVUS:
        say("The server's tests were skipped: no Milvus; its PyPI package is for Linux x86-64 only")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


@atexit.register
def _clean_up() -> None:
    if _MONGO is not None:
        _MONGO.stop()
    shutil.rmtree(_ROOT, ignore_errors=True)


class _Servers:
    """Starts each kind of server once, when it is first asked for.

    Args:
        common: a folder of all processes of this test run
        worker: the name of this one, if there are others
    """

    def __init__(self, common: Path, worker: str | None) -> None:
        self._common, self._worker = common, worker
        self._running: dict[str, MilvusServer] = {}

    def get(self, kind: Kind) -> MilvusServer:
        if kind not in self._running and kind == "plain" and self._worker is not None:
            self._running[kind] = MilvusServer.share(self._common / "milvus", self._worker)
        elif kind not in self._running:
            folder = Path(tempfile.mkdtemp(prefix=f"milvus-{kind}-", dir=_ROOT))
            self._running[kind] = MilvusServer.start(kind, folder)
        return self._running[kind]

    def stop(self, kind: str | None = None) -> None:
        for name in [kind] if kind else list(self._running):
            server = self._running.pop(name, None)
            if server is not None:
                server.stop()


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def milvus_servers(common: Path) -> Iterator[_Servers]:
    servers = _Servers(common, os.environ.get("PYTEST_XDIST_WORKER"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def milvus_server(milvus_servers: _Servers) -> MilvusServer:
    """A server without authorization; don't kill it: other tests use it too."""
    return milvus_servers.get("plain")


@pytest.fixture(scope="module")
def auth_server(milvus_servers: _Servers) -> Iterator[MilvusServer]:
    """A server that wants ``root``'s password."""
    yield milvus_servers.get("auth")
    milvus_servers.stop("auth")


@pytest.fixture(scope="module")
def tls_server(milvus_servers: _Servers) -> Iterator[MilvusServer]:
    """A server with one-way TLS."""
    yield milvus_servers.get("tls")
    milvus_servers.stop("tls")


@pytest.fixture(scope="module")
def mtls_server(milvus_servers: _Servers) -> Iterator[MilvusServer]:
    """A server that wants a client certificate."""
    yield milvus_servers.get("mtls")
    milvus_servers.stop("mtls")


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., MilvusServer]]:
    """Starts a server of the test's own, to kill and restart at will."""
    servers: list[MilvusServer] = []

    def make(kind: Kind = "plain", **kwargs: Any) -> MilvusServer:
        servers.append(MilvusServer.start(kind, tmp_path / f"milvus-{len(servers)}", **kwargs))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def _stop_embedded(path: Path) -> None:
    from fiftyone_milvus import embedded

    embedded.stop(path)


@pytest.fixture
def embedded_path() -> Iterator[Path]:
    """A fresh path for an embedded engine's data; its service ends with the test.

    Not pytest's ``tmp_path``: the name of a unix socket can't be longer than 107 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    path = folder / "test.db"
    yield path
    _stop_embedded(path)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Engine:
    """One of the two engines, for tests that must hold on both.

    Attributes:
        name: ``"embedded"`` or ``"server"``
        kwargs: what to pass to ``compute_similarity`` to use it
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Any:
        from fiftyone_milvus.connection import Settings

        return Settings.parse(self.kwargs)


@pytest.fixture(scope="session")
def _embedded_session_path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    path = folder / "session.db"
    yield path
    _stop_embedded(path)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=["embedded", "server"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn, and for the whole session: name collections of your own."""
    if request.param == "server":
        server: MilvusServer = request.getfixturevalue("milvus_server")
        return Engine("server", server.kwargs)
    path: Path = request.getfixturevalue("_embedded_session_path")
    return Engine("embedded", {"uri": str(path)})
