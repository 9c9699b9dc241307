"""The plugin in FiftyOne's plugins directory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fiftyone.operators as foo
import pytest

from fiftyone_milvus import __version__
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import NAME, installation
from tests.cli.support import call
from tests.support.waiting import PATIENCE
from tests.support.warm import WARM


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "plugins"))
    return tmp_path / "plugins"


# No engine is needed here
@pytest.fixture(autouse=True)
def _configured() -> None:
    return


def test_the_command_line(folder: Path) -> None:
    out, _ = call("plugin", "status")
    assert "not installed" in out
    assert "fiftyone-milvus plugin install" in out
    out, _ = call("plugin", "install")
    assert str(folder) in out
    assert (folder / "fiftyone-milvus").is_symlink()
    out, _ = call("plugin", "status", "--json")
    status = json.loads(out)
    assert (status["installed"], status["how"], status["current"]) == (True, "link", True)
    listed = subprocess.run(
        [str(Path(sys.executable).with_name("fiftyone")), "plugins", "list"],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=PATIENCE,
    )
    assert NAME in listed.stdout, listed.stderr
    out, _ = call("plugin", "uninstall")
    assert "Uninstalled" in out
    assert not (folder / "fiftyone-milvus").exists()
    out, _ = call("plugin", "uninstall")
    assert "not installed" in out


def test_copies_and_links_replace_each_other(folder: Path) -> None:
    assert installation.install(copy=True).how == "copy"
    assert installation.status().current
    path = folder / "fiftyone-milvus"
    (path / "fiftyone.yml").write_text(f'name: "{NAME}"\nversion: 0.0.0\n')
    assert not installation.status().current
    assert installation.install().how == "link"
    assert installation.install().current
    assert installation.install(copy=True).how == "copy"
    assert installation.status().current


def test_a_link_to_an_installation_that_is_gone(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    gone = tmp_path / "old" / "fiftyone_milvus" / "plugin" / "app"
    (folder / "fiftyone-milvus").symlink_to(gone)
    assert not installation.status().installed
    assert installation.install().current


def test_where_links_fail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "a privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert installation.install().how == "copy"


def test_something_else_in_its_place(folder: Path) -> None:
    path = folder / "fiftyone-milvus"
    path.mkdir(parents=True)
    (path / "precious.txt").write_text("mine")
    for action in (installation.install, installation.uninstall):
        with pytest.raises(InvalidInputError, match="is not this plugin"):
            action()
    assert (path / "precious.txt").read_text() == "mine"


def test_a_directory_that_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "file" / "plugins"))
    with pytest.raises(InvalidInputError, match="FIFTYONE_PLUGINS_DIR"):
        installation.install()


def test_the_manifest_is_complete() -> None:
    installed = [operator for operator in foo.list_operators() if operator.plugin_name == NAME]
    manifest = (Path(installation.__file__).parent / "app" / "fiftyone.yml").read_text()
    names = {*re.findall(r"^  - (\w+)$", manifest, flags=re.MULTILINE)}
    assert names == {operator.name for operator in installed} | {"milvus_panel"}
    assert f"version: {__version__}" in manifest


def test_the_plugins_directory_is_fiftyones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What `import fiftyone` reads
    script = "import fiftyone.core.config as foc; print('>', foc.load_config().plugins_dir)"
    config = tmp_path / "config.json"
    for variables, content in (
        ({"FIFTYONE_PLUGINS_DIR": str(tmp_path / "a")}, {"plugins_dir": "elsewhere"}),
        ({}, {"default_dataset_dir": str(tmp_path / "c")}),
    ):
        with monkeypatch.context() as context:
            for name in ("FIFTYONE_PLUGINS_DIR", "FIFTYONE_DEFAULT_DATASET_DIR"):
                context.delenv(name, raising=False)
            config.write_text(json.dumps(content))
            context.setenv("FIFTYONE_CONFIG_PATH", str(config))
            for name, value in variables.items():
                context.setenv(name, value)
            done = WARM.run(script)
            theirs = done.stdout.split("> ")[-1].strip()
            assert str(installation.plugins_dir()) == theirs, done.stderr
