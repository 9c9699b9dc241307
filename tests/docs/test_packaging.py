"""What is published: metadata, the README on a package index, a complete source distribution."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

import fiftyone_milvus

ROOT = Path(__file__).parents[2]
NAME = f"fiftyone_milvus-{fiftyone_milvus.__version__}"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with a source distribution, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def metadata(dist: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        message = BytesParser().parsebytes(wheel.read(f"{NAME}.dist-info/METADATA"))
    found: dict[str, list[str]] = {}
    for key, value in message.items():
        found.setdefault(key, []).append(value)
    found["Description"] = [message.get_payload(decode=True).decode("utf-8")]  # type: ignore[union-attr]
    return found


def test_twine_accepts_both(dist: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_metadata(metadata: dict[str, list[str]]) -> None:
    assert metadata["Author"] == ["fiftyone-milvus developers"]
    assert metadata["License-Expression"] == ["Apache-2.0"]
    assert metadata["Description-Content-Type"] == ["text/markdown"]
    # There is no public place yet
    assert "Project-URL" not in metadata
    assert "Home-page" not in metadata


def test_the_description_has_no_relative_link(metadata: dict[str, list[str]]) -> None:
    (text,) = metadata["Description"]
    links = re.findall(r"\]\(\s*([^)\s]+)", text)
    links += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    links += re.findall(r"^\[[^\]]+\]: +(\S+)", text, re.MULTILINE)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    # Nothing else was lost
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ .*$", readme, re.MULTILINE)
    assert re.findall(r"^#+ .*$", text, re.MULTILINE) == headings
    assert text.count("```") == readme.count("```")


def test_the_source_distribution_is_complete(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        packed = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    # .gitignore is packed too: hatch reads it
    assert {*listed.stdout.strip("\0").split("\0")} - packed == set()
