"""The examination says what is wrong, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fiftyone_milvus import inventory
from fiftyone_milvus.plugin import installing
from tests.cli.support import call, read
from tests.conftest import Engine
from tests.servers import MilvusServer


def verdicts(*arguments: str, exit_code: int = 0) -> dict[str, dict[str, str]]:
    found = read("doctor", *arguments, exit_code=exit_code, how=call)
    return {verdict["check"]: verdict for verdict in found}


@pytest.fixture
def enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "brain_config.json"
    monkeypatch.setenv("FIFTYONE_BRAIN_CONFIG_PATH", str(path))
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "plugins"))
    call("enable")
    installing.install()
    return path


def test_all_is_well(configured: Engine, enabled: Path) -> None:
    found = verdicts()
    levels = {name: verdict["level"] for name, verdict in found.items() if name != "indexes"}
    assert set(levels.values()) == {"ok"}, found
    assert {*levels} >= {"packages", "MongoDB", "brain config", "plugin", "Milvus", "round trip"}
    assert ("disk" in levels) == (configured.name == "embedded")
    names = {c.name for c in inventory.collections(inventory.configured(configured.kwargs["uri"]))}
    assert not any("doctor" in name for name in names)


def test_what_is_not(enabled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = json.loads(enabled.read_text())
    config["similarity_backends"]["milvus"] |= {"uri": "http://127.0.0.1:9", "pasword": "x"}
    enabled.write_text(json.dumps(config))
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "nothing"))
    found = verdicts(exit_code=1)
    assert found["brain config"]["level"] == "problem"
    assert "'pasword'" in found["brain config"]["found"]
    assert str(enabled) in found["brain config"]["remedy"]
    assert found["plugin"]["level"] == "warning"
    assert found["plugin"]["remedy"] == "run `fiftyone-milvus plugin install`"
    assert found["Milvus"]["level"] == "problem"
    assert "nothing listens there" in found["Milvus"]["found"]
    assert "start Milvus" in found["Milvus"]["remedy"]
    assert "round trip" not in found


def test_tls_and_permissions(
    mtls_server: MilvusServer,
    auth_server: MilvusServer,
    enabled: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in mtls_server.kwargs.items():
        monkeypatch.setenv(f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{name.upper()}", str(value))
    found = verdicts()
    assert found["encryption"]["found"].startswith("mutual TLS; the server's certificate is valid")
    assert found["round trip"]["level"] == "ok"

    for name in mtls_server.kwargs:
        monkeypatch.delenv(f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{name.upper()}")
    auth_server.client().create_user("reader", "secret-123")
    settings = {"uri": auth_server.uri, "user": "reader", "password": "secret-123"}
    for name, value in settings.items():
        monkeypatch.setenv(f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{name.upper()}", value)
    found = verdicts(exit_code=1)
    assert found["round trip"]["level"] == "problem"
    assert "CreateCollection" in found["round trip"]["remedy"]
    assert "secret-123" not in json.dumps(found)
