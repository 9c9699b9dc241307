"""Installs the plugin: FiftyOne's plugins directory gets a link to this package, or a copy.

Both only import the package, so an upgrade of the package upgrades the plugin.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import NAME

FOLDER = "fiftyone-milvus"
_APP = Path(__file__).with_name("app")
_MANIFEST = "fiftyone.yml"


@dataclass(frozen=True)
class PluginStatus:
    """Whether FiftyOne finds the plugin.

    Attributes:
        installed: whether it is in the plugins directory
        path: where it is, or would be
        how: ``"link"`` or ``"copy"``; None if it is not installed
        current: whether it belongs to this installation of the package
    """

    installed: bool
    path: Path
    how: str | None
    current: bool

    def __str__(self) -> str:
        if not self.installed:
            return f"not installed in {self.path.parent}; run `fiftyone-milvus plugin install`"
        if not self.current:
            what = f"a {self.how} of another installation ({self.path})"
            return f"{what}; run `fiftyone-milvus plugin install`"
        return f"installed as a {self.how} ({self.path})"


def plugins_dir() -> Path:
    """Returns FiftyOne's plugins directory; does not import FiftyOne, which takes seconds."""
    file = Path(os.environ.get("FIFTYONE_CONFIG_PATH") or "~/.fiftyone/config.json").expanduser()
    config: dict[str, str] = {}
    with suppress(OSError, ValueError):
        config = json.loads(file.read_text())
    named = os.environ.get("FIFTYONE_PLUGINS_DIR") or config.get("plugins_dir")
    if not named:
        datasets = os.environ.get("FIFTYONE_DEFAULT_DATASET_DIR")
        datasets = datasets or config.get("default_dataset_dir") or "~/fiftyone"
        named = os.path.join(datasets, "__plugins__")
    return Path(named).expanduser().absolute()


def status() -> PluginStatus:
    """Returns whether the plugin is in FiftyOne's plugins directory."""
    path = plugins_dir() / FOLDER
    if not _is_ours(path):
        return PluginStatus(False, path, None, False)
    if path.is_symlink():
        return PluginStatus(path.exists(), path, "link", path.resolve() == _APP.resolve())
    current = all(
        (path / file.name).is_file() and (path / file.name).read_bytes() == file.read_bytes()
        for file in _files()
    )
    return PluginStatus(True, path, "copy", current)


def install(*, copy: bool = False) -> PluginStatus:
    """Installs the plugin in FiftyOne's plugins directory; replaces an older one.

    Args:
        copy (False): whether to copy it even where a link can be made

    Raises:
        InvalidInputError: if its place is taken, or the directory can't be written
    """
    found = status()
    if found.current and (found.how == "copy") == copy:
        return found
    path = found.path
    _check_free(path)
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A rename at the end, so that an interruption leaves the old one or the new one
        new = path.with_name(f".{FOLDER}-{os.getpid()}")
        if copy or not _link(new):
            new.mkdir()
            for file in _files():
                shutil.copyfile(file, new / file.name)
        _remove(path)
        new.replace(path)
    return status()


def uninstall() -> bool:
    """Removes the plugin from FiftyOne's plugins directory; returns whether it was there.

    Raises:
        InvalidInputError: if its place is taken, or the directory can't be written
    """
    path = plugins_dir() / FOLDER
    if not path.exists() and not path.is_symlink():
        return False
    _check_free(path)
    with _one_line(path):
        _remove(path)
    return True


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInputError(
            f"Can't write to FiftyOne's plugins directory '{path.parent}': {error.strerror}; set "
            "FIFTYONE_PLUGINS_DIR to a directory that you may write to"
        ) from error


def _files() -> list[Path]:
    return [file for file in sorted(_APP.iterdir()) if file.is_file()]


def _link(path: Path) -> bool:
    try:
        path.symlink_to(_APP, target_is_directory=True)
    except (OSError, NotImplementedError):
        # Windows requires a privilege for it
        return False
    return True


def _is_ours(path: Path) -> bool:
    """Returns whether a path is this plugin, of this installation or of another one."""
    if path.is_symlink() and not path.exists():
        return os.readlink(path).replace(os.sep, "/").endswith("fiftyone_milvus/plugin/app")
    manifest = path / _MANIFEST
    return manifest.is_file() and NAME in manifest.read_text(errors="replace")


def _check_free(path: Path) -> None:
    if (path.exists() or path.is_symlink()) and not _is_ours(path):
        raise InvalidInputError(
            f"'{path}' is not this plugin; move it away, or set FIFTYONE_PLUGINS_DIR"
        )


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
