"""What would find things of the user, if they could be found; run by ``test_isolation``.

Nothing here names an address: an index goes where the defaults lead.
"""

from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import pytest

import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)
from fiftyone_milvus import embedded
from tests.cli.support import call, read
from tests.support.indexes import image_dataset, python, vectors


@pytest.fixture
def index():
    dataset = image_dataset(5)
    index = fob.compute_similarity(
        dataset, embeddings=vectors(5), brain_key="default", backend="milvus"
    )
    yield index
    index.cleanup()
    dataset.delete()
    embedded.stop(embedded.default_path())


def test_defaults_lead_to_private_places(index):
    assert index.config.deployment == "embedded"
    root = Path.home().parent
    assert embedded.default_path().is_relative_to(root)
    for folder in (fo.config.database_dir, fo.config.plugins_dir, fo.config.model_zoo_dir):
        assert Path(folder).is_relative_to(root)
    assert fo.config.database_name != "theirs"
    code = """
        import fiftyone as fo, sys, fiftyone_milvus
        index = fo.load_dataset(sys.argv[1]).load_brain_results("default")
        print(index.total_index_size, index.config.deployment)
    """
    name = index._samples.name
    assert python(code, name, fresh=True, timeout=280).split()[-2:] == ["5", "embedded"]


def test_commands_find_private_things_only(index):
    found = read("list")
    assert [one["brain_key"] for one in found["indexes"]] == ["default"]
    paths = [service["path"] for service in json.loads(call("status", "--json")[0])["services"]]
    assert paths == [str(embedded.default_path())]
