"""Makes this package FiftyOne's ``backend="milvus"``.

FiftyOne finds the class of a backend in ``similarity_backends.<name>.config_cls`` of its brain
config, which it reads from the environment, then from the config file, then from its built-ins.
:func:`take_over` sets the first, for this process; :func:`enable` the second, for every process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from fiftyone_milvus.errors import FiftyOneMilvusError

CONFIG_CLS = "fiftyone_milvus.backend.MilvusSimilarityConfig"
_PREFIX = "FIFTYONE_BRAIN_SIMILARITY_MILVUS_"
ENV_VAR = f"{_PREFIX}CONFIG_CLS"

BUILTIN_CLS = "fiftyone.brain.internal.core.milvus.MilvusSimilarityConfig"
_DEFAULT_INDENT = 4


def take_over() -> bool:
    """Makes this package the ``backend="milvus"`` of this process and of those it will start.

    The FiftyOne App's server is such a process. The other parameters of the backend do not change.
    Does nothing if the user has set another class, or a ``FIFTYONE_BRAIN_SIMILARITY_BACKENDS``
    without ``milvus``.

    Returns:
        whether ``backend="milvus"`` is this package, or will be when FiftyOne is imported
    """
    exposed = os.environ.get("FIFTYONE_BRAIN_SIMILARITY_BACKENDS", "*").split(",")
    if not {"milvus", "*"}.intersection(exposed):
        return False

    brain = sys.modules.get("fiftyone.brain")
    config = getattr(brain, "brain_config", None)
    if config is None:
        named = os.environ.get(ENV_VAR) or _named_class_or_none()
    else:
        parameters = config.similarity_backends.get("milvus")
        if parameters is None:
            return False
        named = parameters.get("config_cls")

    if named not in (None, BUILTIN_CLS, CONFIG_CLS):
        return False
    os.environ[ENV_VAR] = CONFIG_CLS
    if config is not None:
        parameters["config_cls"] = CONFIG_CLS
    return True


def config_path() -> Path:
    """Returns the path of FiftyOne's brain config, which may not exist."""
    # FiftyOne's own locate_brain_config() would need an import of FiftyOne, which takes seconds
    named = os.environ.get("FIFTYONE_BRAIN_CONFIG_PATH")
    return Path(named) if named else Path.home() / ".fiftyone" / "brain_config.json"


def is_enabled() -> bool:
    """Returns whether the brain config file makes this package the ``backend="milvus"``.

    Raises:
        FiftyOneMilvusError: if the file is not valid JSON
    """
    return _named_class(_read(config_path())) == CONFIG_CLS


def parameter(name: str) -> Any:
    """Returns a parameter of ``backend="milvus"`` from the environment or the brain config file.

    Args:
        name: of the parameter

    Raises:
        FiftyOneMilvusError: if the file is not valid JSON
    """
    named = os.environ.get(f"{_PREFIX}{name.upper()}")
    config = _read(config_path()) or {}
    return named or config.get("similarity_backends", {}).get("milvus", {}).get(name)


def enable() -> bool:
    """Makes this package the ``backend="milvus"`` of every process, such as the App's server.

    Sets one key in the brain config file, and changes nothing else in it. Running processes keep
    their backend.

    Returns:
        whether the file was changed

    Raises:
        FiftyOneMilvusError: if the file is not valid JSON, and so was not changed
    """
    path = config_path()
    config = _read(path)
    if _named_class(config) == CONFIG_CLS:
        return False

    content: dict[str, Any] = {} if config is None else config
    before = {
        "file": config is not None,
        "similarity_backends": "similarity_backends" in content,
        "milvus": "milvus" in content.get("similarity_backends", {}),
        "config_cls": _named_class(config),
    }
    milvus = content.setdefault("similarity_backends", {}).setdefault("milvus", {})
    milvus["config_cls"] = CONFIG_CLS

    _write(_backup_path(path), before)
    _write(path, content)
    return True


def disable() -> bool:
    """Undoes :func:`enable`, and no other change of the file.

    Returns:
        whether the file was changed

    Raises:
        FiftyOneMilvusError: if the file is not valid JSON, and so was not changed
    """
    path = config_path()
    backup = _backup_path(path)
    config = _read(path)
    if config is None or _named_class(config) != CONFIG_CLS:
        backup.unlink(missing_ok=True)
        return False

    before = _read_backup(backup)
    backends = config["similarity_backends"]
    milvus = backends["milvus"]
    if before.get("config_cls"):
        milvus["config_cls"] = before["config_cls"]
    else:
        del milvus["config_cls"]
    if not milvus and not before.get("milvus"):
        del backends["milvus"]
    if not backends and not before.get("similarity_backends"):
        del config["similarity_backends"]

    if config or before.get("file"):
        _write(path, config)
    else:
        path.unlink()
    backup.unlink(missing_ok=True)
    return True


def _named_class(config: dict[str, Any] | None) -> str | None:
    if config is None:
        return None
    name = config.get("similarity_backends", {}).get("milvus", {}).get("config_cls")
    return name if isinstance(name, str) else None


def _named_class_or_none() -> str | None:
    try:
        return _named_class(_read(config_path()))
    except FiftyOneMilvusError:
        return None  # FiftyOne itself reports the error, when it reads the file


def _backup_path(path: Path) -> Path:
    # What enable() found is in a file of its own: FiftyOne would take a key for a parameter
    return path.with_name(path.name + ".fiftyone-milvus")


def _read_backup(backup: Path) -> dict[str, Any]:
    try:
        before = json.loads(backup.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it was deleted, so only what enable() wrote is undone
    return before if isinstance(before, dict) else {}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise FiftyOneMilvusError(f"Can't read {path} ({e}); repair or remove the file") from e

    try:
        config = json.loads(text)
    except json.JSONDecodeError as e:
        raise FiftyOneMilvusError(
            f"{path} is not valid JSON: line {e.lineno}, column {e.colno}: {e.msg}; "
            "correct that line, then try again"
        ) from e

    value, where = config, ""
    for key in ("similarity_backends", "milvus", None):
        if not isinstance(value, dict):
            raise FiftyOneMilvusError(
                f"{path}: {where[1:] or 'its content'} is {json.dumps(value)[:40]}, expected a "
                'JSON object like {"key": "value"}; correct it, then try again'
            )
        value, where = value.get(key, {}), f"{where}.{key}"
    return config


def _write(path: Path, content: dict[str, Any]) -> None:
    target = Path(os.path.realpath(path))
    try:
        _replace(target, content)
    except OSError as e:
        raise FiftyOneMilvusError(
            f"Can't write {target} ({e.strerror}); make it and its directory writable"
        ) from e


def _replace(target: Path, content: dict[str, Any]) -> None:
    indent: int | str | None = _DEFAULT_INDENT
    mode, end = 0o600, "\n"
    if target.exists():
        old = target.read_text(encoding="utf-8")
        mode = target.stat().st_mode & 0o777
        indent, end = _style(old)

    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=indent, ensure_ascii=False) + end
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A power loss would else leave an empty file under its name.
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _style(text: str) -> tuple[int | str | None, str]:
    """Returns the indent and the end of a JSON file, to keep the style of its user."""
    end = "\n" if text.endswith("\n") else ""
    found = re.match(r"\s*\{\s*?\n([ \t]+)", text)
    if found is not None:
        return found.group(1), end
    return (None if text.strip() not in ("", "{}") else _DEFAULT_INDENT), end
