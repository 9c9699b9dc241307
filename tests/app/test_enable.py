"""``fiftyone-milvus enable``, and an App's server that knows of this package from nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_milvus.setup import takeover
from tests.app.conftest import OpenApp, StartServer
from tests.app.digits import KEY, Scans
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.app

PROGRAM = Path(sys.executable).with_name("fiftyone-milvus")

# As the plugins of users do; what is only ours is the parameter `deployment`
PLUGIN = f"""
import fiftyone.brain as fob
import fiftyone.operators as foo


class Index(foo.Operator):
    @property
    def config(self):
        return foo.OperatorConfig(name="index", label="Index")

    def execute(self, ctx):
        index = fob.compute_similarity(
            ctx.dataset,
            backend="milvus",
            brain_key="{KEY}",
            embeddings="embedding",
            metric="cosine",
            deployment="embedded",
        )
        return {{"class": type(index).__module__, "size": index.total_index_size}}


def register(plugin):
    plugin.register(Index)
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins" / "indexer"
    folder.mkdir(parents=True)
    (folder / "fiftyone.yml").write_text("name: '@test/indexer'\noperators: [index]\n")
    (folder / "__init__.py").write_text(PLUGIN)
    return folder.parent


@pytest.fixture
def dataset(scans: Scans) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("enabled-digits")
    dataset.set_values("embedding", list(scans.vectors))
    yield dataset
    dataset.delete()


def test_enabling_is_all_that_the_app_needs(
    scans: Scans,
    dataset: fo.Dataset,
    start_server: StartServer,
    open_app: OpenApp,
    plugins: Path,
    embedded_path: Path,
    tmp_path: Path,
) -> None:
    environment = {
        takeover.ENV_VAR: None,  # set in this process, which imports the package
        "FIFTYONE_BRAIN_CONFIG_PATH": str(tmp_path / "brain_config.json"),
        "FIFTYONE_PLUGINS_DIR": str(plugins),
        "FIFTYONE_MILVUS_PATH": str(embedded_path),
    }
    merged = {**os.environ, **environment}
    subprocess.run(
        [PROGRAM, "enable"],
        env={name: value for name, value in merged.items() if value is not None},
        check=True,
        timeout=PATIENCE,
    )

    server = start_server(environment)
    answer = server.execute("@test/indexer/index", dataset.name)
    assert answer == {"class": "fiftyone_milvus.index", "size": len(dataset)}
    app = open_app(server, dataset)
    app.show_pictures()
    scans.check(app.search_by_image(3), 3)
