"""The examination says what is wrong, and what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_milvus import embedded, inventory
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.doctor import installation, roundtrip, verdict
from fiftyone_milvus.errors import CollectionDamagedError, InvalidInputError
from fiftyone_milvus.plugin.installation import install
from fiftyone_milvus.setup import takeover
from tests.cli.conftest import Configure
from tests.cli.support import Call, call, enter, read
from tests.conftest import Engine
from tests.plugin.shown import Shown
from tests.support.servers import MilvusServer


def verdicts(*arguments: str, how: Call = enter, exit_code: int = 0) -> dict[str, dict[str, str]]:
    found = read("doctor", *arguments, exit_code=exit_code, how=how)
    return {verdict["check"]: verdict for verdict in found}


@pytest.fixture
def enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "brain_config.json"
    monkeypatch.setenv("FIFTYONE_BRAIN_CONFIG_PATH", str(path))
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "plugins"))
    takeover.enable()
    install()
    return path


def test_all_is_well(configured: Engine, enabled: Path) -> None:
    # As a shell calls it, on one of them
    found = verdicts(how=call if configured.name == "embedded" else enter)
    levels = {name: verdict["level"] for name, verdict in found.items() if name != "indexes"}
    assert set(levels.values()) == {"ok"}, found
    assert {*levels} >= {"packages", "MongoDB", "brain config", "plugin", "Milvus", "round trip"}
    assert "that is the configured address" in found["new indexes"]["found"]
    assert ("disk" in levels) == (configured.name == "embedded")
    names = {c.name for c in inventory.collections(inventory.configured(configured.kwargs["uri"]))}
    assert not any("doctor" in name or "temporary" in name for name in names)


def test_what_is_not(enabled: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(uri="http://127.0.0.1:9", pasword="x")
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(enabled.parent / "nothing"))
    found = verdicts(exit_code=1)
    assert found["brain config"]["level"] == "problem"
    assert "'pasword'" in found["brain config"]["found"]
    assert str(enabled) in found["brain config"]["remedy"]
    assert found["plugin"]["level"] == "warning"
    assert found["plugin"]["remedy"] == "run `fiftyone-milvus plugin install`"
    assert "plugin install" not in found["plugin"]["found"]
    assert found["Milvus"]["level"] == "problem"
    assert "nothing listens there" in found["Milvus"]["found"]
    assert "start Milvus" in found["Milvus"]["remedy"]
    assert "round trip" not in found


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_an_index_whose_milvus_is_silent(enabled: Path, digits: fo.Dataset) -> None:
    read("create", digits.name, "similar", "--model", MODEL)
    digits.clear_cache()
    # As in a process that was given another address for this one
    digits.load_brain_results("similar", uri="http://127.0.0.1:9")
    found = verdicts(exit_code=1)
    assert found["Milvus"]["level"] == found["round trip"]["level"] == "ok"
    assert found["indexes"]["level"] == "problem"
    assert f"can't be used, for example 'similar' of '{digits.name}'" in found["indexes"]["found"]
    assert "nothing listens there" in found["indexes"]["found"]
    assert "start Milvus" in found["indexes"]["remedy"]
    digits.clear_cache()
    enter("delete", digits.name, "similar", "--yes")


def test_a_database_that_is_silent(enabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100"
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", uri)
    # As a shell calls it: FiftyOne asks its database when it is imported
    found = verdicts(how=call, exit_code=1)
    assert [*found] == ["packages", "MongoDB"]
    assert found["MongoDB"]["level"] == "problem"
    assert "FIFTYONE_DATABASE_URI" in found["MongoDB"]["remedy"]


def test_whatever_milvus_raises_is_a_verdict(
    enabled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(uri: str | None) -> None:
        raise RuntimeError("no more files")

    monkeypatch.setattr(inventory, "configured", fail)
    found = verdicts(exit_code=1)["Milvus"]
    assert (found["level"], found["found"]) == ("problem", "RuntimeError: no more files")


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_its_collection_is_no_orphan(
    enabled: Path, configured: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    search = roundtrip._search

    def look(collection: MilvusCollection, *args: Any) -> None:
        for info in inventory.collections(collection.connection):
            seen[info.name] = f"{info.owner}: {info.why}"
        seen[""] = seen[collection.name]
        search(collection, *args)

    monkeypatch.setattr(roundtrip, "_search", look)
    assert verdicts()["round trip"]["level"] == "ok"
    assert seen[""].startswith("other: temporary, of a check")


def test_backends_that_leave_milvus_out(enabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_BACKENDS", "sklearn")
    monkeypatch.setattr(fob.brain_config, "similarity_backends", {"sklearn": {}})
    found = installation.brain_config()
    assert found.level == "problem"
    assert "is 'sklearn'" in found.found
    assert "FIFTYONE_BRAIN_SIMILARITY_BACKENDS" in found.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it is full; free some", ("it is full", "free some")),
        (
            "Milvus at http://m:19530 refuses user 'a' with this password: check 'user'",
            ("Milvus at http://m:19530 refuses user 'a' with this password", "check 'user'"),
        ),
        ("Milvus at m: 5 are no use", ("Milvus at m: 5 are no use", "")),
    ],
)
def test_what_to_do_is_told_apart(text: str, expected: tuple[str, str]) -> None:
    assert verdict.advice(InvalidInputError(text)) == expected


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


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_wrong_credentials_are_one_line_in_the_panel(
    auth_server: MilvusServer, digits: fo.Dataset, configure: Configure
) -> None:
    configure(uri=auth_server.uri, user="root", password="not-the-password")
    shown = Shown(digits).on("on_load")
    assert re.fullmatch(r"\*\*Milvus does not answer\.\*\* .*password.*", shown.state["status"])
    assert "not-the-password" not in f"{shown.drawn}{shown.state}{shown.data}"


def test_damaged_files(
    enabled: Path, embedded_path: Path, scans: Any, configure: Configure
) -> None:
    configure(uri=str(embedded_path))
    dataset = scans.dataset("cli-damaged", 60)
    read("create", dataset.name, "similar", "--model", MODEL)
    index = dataset.load_brain_results("similar")
    name, ids = index.config.collection_name, set(index.sample_ids)
    index.client.flush(name)
    embedded.stop(embedded_path)
    (file,) = embedded_path.glob(f"collections/{name}/partitions/*/data/*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(CollectionDamagedError, match=r"data_.* was changed, which affects 60 rows"):
        _ = dataset.load_brain_results("similar", cache=False).total_index_size
    (listed,) = inventory.collections(inventory.configured(str(embedded_path)))
    assert listed.name == name
    found = verdicts(exit_code=1)["files"]
    assert found["level"] == "problem"
    assert found["remedy"] == f"run `fiftyone-milvus doctor --repair --uri {embedded_path}`"

    found = verdicts("--repair", "--uri", str(embedded_path))
    assert found["files"]["level"] == "ok"
    assert found["repair"]["level"] == "warning"
    assert f"fiftyone-milvus sync {dataset.name} similar" in found["repair"]["remedy"]
    lost = embedded_path / "collections" / name / "quarantine" / "lost.txt"
    assert set(lost.read_text("utf-8").split()) == ids
    dataset.clear_cache()
    assert dataset.load_brain_results("similar").total_index_size == 0
    read("sync", dataset.name, "similar")
    assert dataset.load_brain_results("similar").total_index_size == 60

    # A damaged one can be deleted
    embedded.stop(embedded_path)
    (embedded_path / "collections" / name / "manifest.json").write_text("{")
    dataset.clear_cache()
    enter("delete", dataset.name, "similar", "--yes")
    assert not inventory.collections(inventory.configured(str(embedded_path)))
    dataset.delete()
