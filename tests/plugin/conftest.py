"""The plugin as FiftyOne finds it, on each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.operators as foo
import pytest

from fiftyone_milvus import inventory
from fiftyone_milvus.plugin import NAME, installation
from tests.app.conftest import scans  # noqa: F401
from tests.app.digits import Scans
from tests.conftest import Engine

Run = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    installation.install()


@pytest.fixture(autouse=True)
def _configured(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Milvus that FiftyOne's brain config names is that of the test's engine."""
    backends = dict(fob.brain_config.similarity_backends)
    backends["milvus"] = {**backends["milvus"], **engine.kwargs}
    monkeypatch.setattr(fob.brain_config, "similarity_backends", backends)


@pytest.fixture
def digits(scans: Scans, request: pytest.FixtureRequest) -> Iterator[fo.Dataset]:  # noqa: F811
    """The first sixty digits."""
    dataset = scans.dataset(f"digits-{request.node.name[:60]}-{id(request)}", 60)
    yield dataset
    for key in inventory.keys(dataset):
        dataset.load_brain_results(key).cleanup()
    dataset.delete()


@pytest.fixture
def run() -> Run:
    """Runs an operator from Python, at once; returns its result."""

    def run(name: str, dataset: fo.Dataset, *, ctx: Any = None, **params: Any) -> Any:
        context = {"dataset": dataset, "params": params, **(ctx or {})}
        return foo.execute_operator(f"{NAME}/{name}", context).result

    return run
