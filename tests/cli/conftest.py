"""A dataset of digits, and a brain config that names the engine."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from tests.app.conftest import scans  # noqa: F401
from tests.app.digits import Scans
from tests.conftest import Engine

COUNT = 60


@pytest.fixture
def configured(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The brain config of the commands names the Milvus of the test's engine."""
    uri = engine.kwargs["uri"]
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI", uri)
    # Read when FiftyOne was imported
    backends = dict(fob.brain_config.similarity_backends)
    backends["milvus"] = {**backends["milvus"], "uri": uri}
    monkeypatch.setattr(fob.brain_config, "similarity_backends", backends)
    return engine


@pytest.fixture
def digits(
    scans: Scans,  # noqa: F811
    configured: Engine,
    request: pytest.FixtureRequest,
) -> Iterator[fo.Dataset]:
    """The first sixty digits."""
    dataset = scans.dataset(f"cli-{configured.name}-{abs(hash(request.node.name))}")
    dataset.delete_samples(dataset.skip(COUNT))
    yield dataset
    if not dataset.deleted:
        dataset.delete()
