"""What the documentation names, ``dir()`` shows, and a user can import."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fiftyone_milvus
from tests.support.indexes import python
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", *(ROOT / "examples").glob("*")]
CLASSES = {
    "Crop",
    "FiftyOneMilvusError",
    "MilvusSimilarity",
    "MilvusSimilarityConfig",
    "MilvusSimilarityIndex",
}
FUNCTIONS = {"disable", "enable", "is_enabled", "search_everywhere"}
MODULES = {"embedded", "errors", "everywhere", "inventory", "moving", "plugin", "selections"}
STORED = [
    "backend.MilvusSimilarityConfig",
    "backend.MilvusSimilarity",
    "index.MilvusSimilarityIndex",
]
"""The classes that users' databases name."""


def documented() -> set[str]:
    """The names in ``fiftyone_milvus`` that examples import, or that a page names in full."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.is_file())
    # Directives for the reference name classes by the module that defines them
    text = re.sub(r"^::: .*$", "", text, flags=re.MULTILINE)
    found = set(re.findall(r"(?<![\w./-])fiftyone_milvus\.(\w+)", text))
    for names in re.findall(r"from fiftyone_milvus import ([\w, ]+)", text):
        found.update(name.strip() for name in names.split(","))
    return found


def test_all_dir_and_the_documentation_agree() -> None:
    public = CLASSES | FUNCTIONS | MODULES | {"__version__"}
    assert set(fiftyone_milvus.__all__) == public
    assert dir(fiftyone_milvus) == sorted(public)
    unknown = documented() - public - {path.split(".")[0] for path in STORED}
    assert not unknown
    assert documented() >= MODULES


@pytest.mark.parametrize("name", sorted(CLASSES | FUNCTIONS | MODULES))
def test_a_public_name_needs_no_other_import(name: str) -> None:
    assert getattr(fiftyone_milvus, name) is not None


def test_names_are_imported_when_they_are_used() -> None:
    output = python(
        """
        import sys
        import fiftyone_milvus
        assert "fiftyone" not in sys.modules
        assert not hasattr(fiftyone_milvus, "nothing")
        print(fiftyone_milvus.inventory.__name__, fiftyone_milvus.errors.__name__)
        from fiftyone_milvus import *
        assert moving.adopt and MilvusSimilarityIndex and search_everywhere
        """,
        fresh=True,
    )
    assert output.split() == ["fiftyone_milvus.inventory", "fiftyone_milvus.errors"]


@pytest.mark.parametrize("path", STORED)
def test_classes_that_databases_name_can_be_imported(path: str) -> None:
    module, name = path.split(".")
    found = importlib.import_module(f"fiftyone_milvus.{module}")
    assert isinstance(getattr(found, name), type)


def test_python_dash_m_is_the_command_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fiftyone_milvus", "--help"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "fiftyone-milvus" in run.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "fiftyone_milvus", "nonsense"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert refused.returncode == 2
