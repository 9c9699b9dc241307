"""An environment in which nothing of the user is seen: home, settings, MongoDB, Milvus, proxies."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import sys
from pathlib import Path

_FOREIGN = ("FIFTYONE_", "MILVUS_", "XDG_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")

CACHE = Path(sys.prefix) / "tests-cache"
"""What every run may use again: Milvus' unpacked binary, caches of fonts. Goes with the venv."""


def isolate(root: Path, database: str) -> socket.socket:
    """Takes the user's settings out of this process' environment, and puts private ones in.

    Call it before FiftyOne, numpy or this package is imported. Child processes inherit it.

    Args:
        root: an existing folder for everything that would be in the user's home; its path is short,
            as the embedded engine's sockets are below it
        database: the URI of a private MongoDB

    Returns:
        a socket, to be kept open: its port is where this process and its children look for a Milvus
        of the user's, and refuses connections

    Raises:
        RuntimeError: if it is too late
    """
    if any(name == "fiftyone" or name.startswith("fiftyone.") for name in sys.modules):
        raise RuntimeError("fiftyone was imported before the environment was made private")
    # A browser that Playwright has downloaded is the only thing of the user's home that is used
    browsers = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or _browsers()
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower() in _PROXIES:
            del os.environ[name]

    home, config, runtime = root / "home", root / "config", root / "run"
    for folder in (home, config, CACHE):
        folder.mkdir(parents=True, exist_ok=True)
    # Bound but not listening: no other program can get the port
    nowhere = socket.socket()
    nowhere.bind(("127.0.0.1", 0))
    os.environ.update(
        HOME=str(home),
        USERPROFILE=str(home),
        XDG_CACHE_HOME=str(CACHE),
        PLAYWRIGHT_BROWSERS_PATH=browsers,
        FIFTYONE_CONFIG_PATH=str(config / "config.json"),
        FIFTYONE_APP_CONFIG_PATH=str(config / "app_config.json"),
        FIFTYONE_BRAIN_CONFIG_PATH=str(config / "brain_config.json"),
        FIFTYONE_EVALUATION_CONFIG_PATH=str(config / "evaluation_config.json"),
        FIFTYONE_ANNOTATION_CONFIG_PATH=str(config / "annotation_config.json"),
        FIFTYONE_DATABASE_URI=database,
        FIFTYONE_DATABASE_NAME=f"fiftyone-{os.getpid()}",
        FIFTYONE_DATABASE_VALIDATION="false",
        FIFTYONE_DATABASE_DIR=str(home / "mongo"),
        FIFTYONE_DEFAULT_DATASET_DIR=str(home / "datasets"),
        FIFTYONE_DATASET_ZOO_DIR=str(home / "datasets"),
        FIFTYONE_MODEL_ZOO_DIR=str(home / "models"),
        FIFTYONE_PLUGINS_DIR=str(home / "plugins"),
        FIFTYONE_DO_NOT_TRACK="true",
        FIFTYONE_SHOW_PROGRESS_BARS="false",
        FIFTYONE_MILVUS_RUNTIME_DIR=str(runtime),
        FIFTYONE_MILVUS_LOCAL_SERVER=f"http://127.0.0.1:{nowhere.getsockname()[1]}",
        # Threads of numpy and of faiss spin for 13 ms of a processor after each product or search,
        # however small it was, in case there is another: others need the time
        OPENBLAS_THREAD_TIMEOUT="4",
        OMP_WAIT_POLICY="passive",
    )
    return nowhere


@functools.cache
def browser() -> str | None:
    """Returns the path of the system's Chromium, or of the one that Playwright downloaded.

    Its shell without a window comes first: it takes a fifth less of a processor than Chromium
    without one, which draws its own user interface besides.
    """
    for name in ("chromium-headless-shell", "chromium", "chromium-browser"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def _browsers() -> str:
    if sys.platform == "darwin":
        return str(Path.home() / "Library" / "Caches" / "ms-playwright")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(base) / "ms-playwright")
