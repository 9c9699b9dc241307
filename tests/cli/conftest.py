"""A dataset of digits, and a brain config that names the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_milvus.setup import takeover
from tests.app.conftest import scans  # noqa: F401
from tests.app.digits import Scans
from tests.conftest import Engine

COUNT = 60
PREFIX = "FIFTYONE_BRAIN_SIMILARITY_MILVUS_"


Configure = Callable[..., None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Puts parameters of Milvus, and no others, into the brain config of all commands."""
    before = dict(fob.brain_config.similarity_backends)

    def configure(**parameters: Any) -> None:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            if name != takeover.ENV_VAR:
                monkeypatch.delenv(name)
        for name, value in parameters.items():
            monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(value))
        # What FiftyOne read of the environment when it was imported into this process
        backends = {**before, "milvus": {"config_cls": takeover.CONFIG_CLS, **parameters}}
        monkeypatch.setattr(fob.brain_config, "similarity_backends", backends)

    return configure


@pytest.fixture
def configured(engine: Engine, configure: Configure) -> Engine:
    """The brain config of the commands names the Milvus of the test's engine."""
    configure(**engine.kwargs)
    return engine


@pytest.fixture
def digits(
    scans: Scans,  # noqa: F811
    configured: Engine,
    request: pytest.FixtureRequest,
) -> Iterator[fo.Dataset]:
    """The first sixty digits."""
    dataset = scans.dataset(f"cli-{configured.name}-{abs(hash(request.node.name))}", COUNT)
    yield dataset
    if not dataset.deleted:
        dataset.delete()
