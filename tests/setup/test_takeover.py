from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.setup import takeover
from tests.support.waiting import PATIENCE
from tests.support.warm import WARM

OURS = "fiftyone_milvus.backend.MilvusSimilarityConfig"
BUILTIN = "fiftyone.brain.internal.core.milvus.MilvusSimilarityConfig"

TakeOver = Callable[[], tuple[bool, dict[str, Any] | None]]


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home" / "brain_config.json"
    monkeypatch.setenv("FIFTYONE_BRAIN_CONFIG_PATH", str(path))
    return path


@pytest.fixture(autouse=True)
def _no_backend_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FIFTYONE_BRAIN_SIMILARITY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(takeover.ENV_VAR, "")  # so that what take_over() sets is undone
    monkeypatch.delenv(takeover.ENV_VAR)


@pytest.fixture(params=["FiftyOne imported before", "FiftyOne imported after"])
def parameters_after_take_over(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[bool, dict[str, Any] | None]]:
    """Takes over; returns whether it did, and the parameters that FiftyOne then has."""
    import fiftyone.brain as fob
    from fiftyone.brain.config import load_brain_config

    def before() -> tuple[bool, dict[str, Any] | None]:
        monkeypatch.setattr(fob, "brain_config", load_brain_config())
        done = takeover.take_over()
        return done, fob.brain_config.similarity_backends.get("milvus")

    def after() -> tuple[bool, dict[str, Any] | None]:
        with monkeypatch.context() as context:
            context.delitem(sys.modules, "fiftyone.brain")
            done = takeover.take_over()
        return done, load_brain_config().similarity_backends.get("milvus")

    return before if request.param == "FiftyOne imported before" else after


def fiftyone_s_class() -> str:
    """Returns the class that a process started now would use."""
    from fiftyone.brain.config import load_brain_config

    return load_brain_config().similarity_backends["milvus"]["config_cls"]


def run_python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().splitlines()[-1]


def write(path: Path, content: Any, **kwargs: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, **kwargs)
    path.write_text(text, encoding="utf-8")
    return text


def test_the_file_is_the_one_that_fiftyone_reads(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone.brain.config import locate_brain_config

    assert str(takeover.config_path()) == locate_brain_config() == str(config_file)
    monkeypatch.delenv("FIFTYONE_BRAIN_CONFIG_PATH")
    assert str(takeover.config_path()) == locate_brain_config()


@pytest.mark.parametrize("first", ["fiftyone_milvus", "fiftyone.brain"])
def test_importing_the_package_takes_over_in_either_order(first: str, config_file: Path) -> None:
    code = f"""
import {first}, fiftyone_milvus, fiftyone.brain as fob
print(fob.brain_config.similarity_backends["milvus"]["config_cls"])
"""
    if first == "fiftyone_milvus":
        assert run_python(code) == OURS
        return
    # Where FiftyOne is imported, and its Brain is not
    done = WARM.run(code)
    assert done.stdout.split() == [OURS], done.stderr


def test_importing_the_package_does_not_import_fiftyone(config_file: Path) -> None:
    assert run_python("import sys, fiftyone_milvus; print('fiftyone' in sys.modules)") == "False"


def test_other_parameters_of_the_backend_stay(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, parameters_after_take_over: TakeOver
) -> None:
    write(config_file, {"similarity_backends": {"milvus": {"uri": "http://milvus:19530"}}})
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_USER", "ann")
    done, parameters = parameters_after_take_over()
    assert done
    assert parameters == {"uri": "http://milvus:19530", "user": "ann", "config_cls": OURS}


def test_processes_started_afterwards_have_it_too(
    config_file: Path, parameters_after_take_over: TakeOver
) -> None:
    assert fiftyone_s_class() == BUILTIN
    parameters_after_take_over()
    assert fiftyone_s_class() == OURS


def test_a_backend_list_without_milvus_is_respected(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, parameters_after_take_over: TakeOver
) -> None:
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_BACKENDS", "sklearn")
    assert parameters_after_take_over() == (False, None)


@pytest.mark.parametrize("backends", ["*", "sklearn,milvus", "*,mine"])
def test_a_backend_list_with_milvus_is_no_obstacle(
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    parameters_after_take_over: TakeOver,
    backends: str,
) -> None:
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_BACKENDS", backends)
    assert parameters_after_take_over() == (True, {"config_cls": OURS})


@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_class_that_the_user_names_is_respected(
    where: str,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    parameters_after_take_over: TakeOver,
) -> None:
    other = "somebody.Else"
    if where == "file":
        write(config_file, {"similarity_backends": {"milvus": {"config_cls": other}}})
    else:
        monkeypatch.setenv(takeover.ENV_VAR, other)
    assert parameters_after_take_over() == (False, {"config_cls": other})


def test_a_broken_file_is_left_for_fiftyone_to_report(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config_file, "{ oops")
    monkeypatch.delitem(sys.modules, "fiftyone.brain", raising=False)
    assert takeover.take_over()


def test_enable_works_in_every_process_and_disable_ends_it(config_file: Path) -> None:
    assert not takeover.is_enabled()
    assert takeover.enable()
    assert takeover.is_enabled()
    assert fiftyone_s_class() == OURS

    assert not takeover.enable(), "the second time there is nothing to do"
    assert takeover.disable()
    assert not takeover.is_enabled()
    assert not takeover.disable()
    assert fiftyone_s_class() == BUILTIN


def test_nothing_is_left_where_nothing_was(config_file: Path) -> None:
    takeover.enable()
    assert stat.S_IMODE(config_file.stat().st_mode) == 0o600, "it may come to hold a password"
    takeover.disable()
    assert list(config_file.parent.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"similarity_backends": {}},
        {"similarity_backends": {"milvus": {}}},
        {"similarity_backends": {"milvus": {"config_cls": BUILTIN}}},
        {"similarity_backends": {"milvus": {"config_cls": "somebody.Else", "uri": "x"}}},
        {
            "z_unknown": [1, {"deep": None}],
            "default_similarity_backend": "milvus",
            "similarity_backends": {"qdrant": {"url": "http://q"}, "milvus": {"password": "日本"}},
            "a_unknown": 1.5,
        },
    ],
)
@pytest.mark.parametrize("indent", [None, 2, 4, "\t"])
def test_disable_restores_the_file_to_the_byte(
    config_file: Path, content: dict[str, Any], indent: int | str | None
) -> None:
    text = write(config_file, content, indent=indent, ensure_ascii=False)
    if content == {}:
        text = "{}"
    config_file.chmod(0o640)

    takeover.enable()
    enabled = json.loads(config_file.read_text(encoding="utf-8"))
    assert enabled["similarity_backends"]["milvus"].pop("config_cls") == OURS
    before = json.loads(text)
    before.setdefault("similarity_backends", {}).setdefault("milvus", {}).pop("config_cls", None)
    assert enabled == before
    assert [key for key in enabled if key in content] == list(content)

    takeover.disable()
    assert config_file.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(config_file.stat().st_mode) == 0o640
    assert [path.name for path in config_file.parent.iterdir()] == [config_file.name]


def test_what_was_written_in_between_stays(config_file: Path) -> None:
    takeover.enable()
    content = json.loads(config_file.read_text())
    content["similarity_backends"]["milvus"]["uri"] = "http://milvus:19530"
    content["default_similarity_backend"] = "milvus"
    write(config_file, content)

    takeover.disable()
    assert json.loads(config_file.read_text()) == {
        "similarity_backends": {"milvus": {"uri": "http://milvus:19530"}},
        "default_similarity_backend": "milvus",
    }


def test_a_linked_file_stays_a_link(config_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.json"
    write(target, {"default_similarity_backend": "milvus"})
    config_file.parent.mkdir()
    config_file.symlink_to(target)
    takeover.enable()
    assert config_file.is_symlink()
    assert OURS in target.read_text()
    takeover.disable()
    assert json.loads(target.read_text()) == {"default_similarity_backend": "milvus"}


@pytest.mark.parametrize("change", [takeover.enable, takeover.disable, takeover.is_enabled])
def test_broken_json_is_named_and_left_alone(config_file: Path, change: Any) -> None:
    text = write(config_file, '{\n  "similarity_backends": {},\n  oops\n}\n')
    with pytest.raises(FiftyOneMilvusError, match="line 3") as caught:
        change()
    assert str(config_file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert config_file.read_text() == text


@pytest.mark.parametrize(
    "content",
    ["[]", '{"similarity_backends": []}', '{"similarity_backends": {"milvus": "x"}}'],
)
def test_json_of_another_shape_is_named_and_left_alone(config_file: Path, content: str) -> None:
    write(config_file, content)
    with pytest.raises(FiftyOneMilvusError, match="expected a JSON object"):
        takeover.enable()
    assert config_file.read_text() == content


def test_a_directory_that_can_not_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "brain_config.json"
    monkeypatch.setenv("FIFTYONE_BRAIN_CONFIG_PATH", str(path))
    with pytest.raises(FiftyOneMilvusError, match=str(path)):
        takeover.enable()


UNINSTALLED = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fiftyone_milvus":
            raise ModuleNotFoundError(f"No module named '{name.partition('.')[0]}'")

sys.meta_path.insert(0, Missing())
import fiftyone as fo
import fiftyone.brain as fob
from fiftyone.core.brain import BrainMethodConfig

try:
    fob.compute_similarity(fo.Dataset(), embeddings=False, backend="milvus")
except Exception as error:
    print(f"{type(error).__name__}: {error}")
BrainMethodConfig.from_dict({"cls": sys.argv[1], "type": "similarity"})
"""


def test_after_an_uninstall_without_disable(config_file: Path, capsys: Any) -> None:
    """What FiftyOne says then is on the page of troubleshooting, with a way back; enable warns."""
    takeover.enable()
    done = WARM.run(UNINSTALLED, OURS)
    said = (done.stdout + done.stderr).splitlines()
    root = Path(__file__).parents[2]
    page = (root / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for line in (
        "ModuleNotFoundError: No module named 'fiftyone_milvus'",
        f"Unable to load {OURS}; falling back to base class",
    ):
        assert line in said, said
        assert f"| `{line}`" in page
    assert f'"config_cls": "{OURS}"' in page
    # Which is what the page tells the user to delete
    text = config_file.read_text()
    assert f'"config_cls": "{OURS}"' in text
    config_file.write_text(text.replace(f'"config_cls": "{OURS}"', ""))
    assert not takeover.is_enabled()

    from fiftyone_milvus.cli import setup

    setup.enable()
    assert "fiftyone-milvus disable` before you uninstall" in capsys.readouterr().out
