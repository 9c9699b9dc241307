"""The plugin in FiftyOne's plugins directory: a link to this package, or a copy where links fail.

Both only import the package, so neither is out of date after an upgrade.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fiftyone_milvus.errors import InvalidInputError

FOLDER = "fiftyone-milvus"
_APP = Path(__file__).with_name("app")
_MANIFEST = "fiftyone.yml"
_NAME = "@fiftyone-milvus/milvus"


@dataclass(frozen=True)
class PluginStatus:
    """Whether FiftyOne finds the plugin.

    Attributes:
        installed: whether it is in the plugins directory
        path: where it is, or would be
        how: ``"link"`` or ``"copy"``; None if it is not installed
        current: whether it is that of this package
    """

    installed: bool
    path: Path
    how: str | None
    current: bool

    def __str__(self) -> str:
        if not self.installed:
            return f"not installed in {self.path.parent}; run `fiftyone-milvus plugin install`"
        if not self.current:
            return (
                f"a {self.how} of another installation ({self.path}); run `fiftyone-milvus plugin "
                "install`"
            )
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
    if path.is_symlink():
        if not _is_ours(path):
            return PluginStatus(False, path, None, False)
        return PluginStatus(path.exists(), path, "link", path.resolve() == _APP.resolve())
    if path.is_dir() and _is_ours(path):
        current = all(
            (path / file.name).is_file() and (path / file.name).read_bytes() == file.read_bytes()
            for file in _files()
        )
        return PluginStatus(True, path, "copy", current)
    return PluginStatus(False, path, None, False)


def install(*, copy: bool = False) -> PluginStatus:
    """Puts the plugin into FiftyOne's plugins directory; replaces an older one.

    Args:
        copy (False): whether to copy it even where links work

    Raises:
        InvalidInputError: if something else is in its place, or the directory can't be written
    """
    found = status()
    if found.current and (found.how == "copy") == copy:
        return found
    path = found.path
    _check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made beside it, so that an interruption leaves the old one or the new one
        new = path.with_name(f".{FOLDER}-{os.getpid()}")
        if copy or not _link(new):
            new.mkdir()
            for file in _files():
                shutil.copyfile(file, new / file.name)
        _remove(path)
        new.replace(path)
    except OSError as error:
        raise _not_writable(path, error) from error
    return status()


def uninstall() -> bool:
    """Takes the plugin out of FiftyOne's plugins directory; returns whether it was there.

    Raises:
        InvalidInputError: if something else is in its place
    """
    path = plugins_dir() / FOLDER
    if not path.exists() and not path.is_symlink():
        return False
    _check_free(path)
    try:
        _remove(path)
    except OSError as error:
        raise _not_writable(path, error) from error
    return True


def _not_writable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"Can't write to FiftyOne's plugins directory '{path.parent}': {error.strerror}; set "
        "FIFTYONE_PLUGINS_DIR to one that you may write to"
    )


def _files() -> list[Path]:
    return [file for file in sorted(_APP.iterdir()) if file.is_file()]


def _link(path: Path) -> bool:
    try:
        path.symlink_to(_APP, target_is_directory=True)
    except (OSError, NotImplementedError):
        # Windows wants a privilege for it
        return False
    return True


def _is_ours(path: Path) -> bool:
    """Whether a folder or link is this plugin, of this installation or of another one."""
    if path.is_symlink() and not path.exists():
        return os.readlink(path).replace(os.sep, "/").endswith("fiftyone_milvus/plugin/app")
    manifest = path / _MANIFEST
    return manifest.is_file() and _NAME in manifest.read_text(errors="replace")


def _check_free(path: Path) -> None:
    if (path.exists() or path.is_symlink()) and not _is_ours(path):
        raise InvalidInputError(
            f"'{path}' is something else than this plugin; move it away, or set "
            "FIFTYONE_PLUGINS_DIR"
        )


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
