"""The examination says what is wrong, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fiftyone_milvus import inventory, takeover
from fiftyone_milvus.plugin import installing
from tests.cli.conftest import Configure
from tests.cli.support import Call, call, enter, read
from tests.conftest import Engine
from tests.servers import MilvusServer


def verdicts(*arguments: str, how: Call = enter, exit_code: int = 0) -> dict[str, dict[str, str]]:
    found = read("doctor", *arguments, exit_code=exit_code, how=how)
    return {verdict["check"]: verdict for verdict in found}


@pytest.fixture
def enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "brain_config.json"
    monkeypatch.setenv("FIFTYONE_BRAIN_CONFIG_PATH", str(path))
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "plugins"))
    takeover.enable()
    installing.install()
    return path


def test_all_is_well(configured: Engine, enabled: Path) -> None:
    # As a shell calls it, on one of them
    found = verdicts(how=call if configured.name == "embedded" else enter)
    levels = {name: verdict["level"] for name, verdict in found.items() if name != "indexes"}
    assert set(levels.values()) == {"ok"}, found
    assert {*levels} >= {"packages", "MongoDB", "brain config", "plugin", "Milvus", "round trip"}
    assert ("disk" in levels) == (configured.name == "embedded")
    names = {c.name for c in inventory.collections(inventory.configured(configured.kwargs["uri"]))}
    assert not any("doctor" in name for name in names)


def test_what_is_not(enabled: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(uri="http://127.0.0.1:9", pasword="x")
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(enabled.parent / "nothing"))
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


def test_mutual_tls(mtls_server: MilvusServer, enabled: Path, configure: Configure) -> None:
    configure(**mtls_server.kwargs)
    found = verdicts()
    assert found["encryption"]["found"].startswith("mutual TLS; the server's certificate is valid")
    assert found["round trip"]["level"] == "ok"


def test_permissions(auth_server: MilvusServer, enabled: Path, configure: Configure) -> None:
    auth_server.client().create_user("reader", "secret-123")
    configure(uri=auth_server.uri, user="reader", password="secret-123")
    found = verdicts(exit_code=1)
    assert found["round trip"]["level"] == "problem"
    assert "CreateCollection" in found["round trip"]["remedy"]
    assert "secret-123" not in json.dumps(found)
