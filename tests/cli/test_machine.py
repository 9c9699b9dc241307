"""What is installed and what runs on this machine, from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fiftyone_milvus import __version__, cli, embedded, fiftyone_config
from tests.cli.support import PROGRAM, call, enter, read
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "brain_config.json"
    monkeypatch.setenv("FIFTYONE_BRAIN_CONFIG_PATH", str(path))
    monkeypatch.delenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_CONFIG_CLS", raising=False)
    return path


def test_version() -> None:
    out, _ = call("--version")
    assert re.match(rf"fiftyone-milvus {re.escape(__version__)} \(fiftyone \S+, pymilvus ", out)


def test_help_shows_every_command_and_examples() -> None:
    out, _ = call("--help")
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert re.search(rf"^\W*{name} ", out, re.MULTILINE), name
        for one in getattr(command, "commands", {"": command}).values():
            assert "Example" in (one.epilog or ""), name


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, fiftyone_milvus.cli\n"
        "heavy = {'fiftyone', 'pymilvus', 'milvus_lite', 'numpy', 'sklearn', 'grpc'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_unknown_commands_and_options_exit_with_2() -> None:
    call("launch", exit_code=2)
    enter("status", "--jsn", exit_code=2)
    enter("stop", "x.db", "--all", exit_code=2)
    enter("serve", "--idle", "-1", exit_code=2)


def test_enable_and_disable(config_file: Path) -> None:
    out, _ = call("enable")
    assert str(config_file) in out
    assert "New indexes go to Milvus' embedded engine: no address is given" in out
    assert "fiftyone_milvus.backend" in config_file.read_text()
    assert json.loads(call("status", "--json")[0])["enabled"] is True
    assert "already" in call("enable")[0]
    call("disable")
    assert not config_file.exists()
    assert "already" in call("disable")[0]


def test_our_errors_are_one_line_and_exit_with_1(config_file: Path) -> None:
    config_file.write_text("{\n oops")
    for command, how in (("enable", enter), ("disable", enter), ("status", call)):
        out, err = how(command, exit_code=1)
        assert out == ""
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert "line 2" in err


def test_setup_finds_the_database_that_is_there() -> None:
    out, _ = call("setup")
    assert out.startswith("FiftyOne uses ")


def test_status_shows_an_engine_and_stop_stops_it(config_file: Path, embedded_path: Path) -> None:
    def running() -> dict[str, dict[str, object]]:
        services = read("status")["services"]
        return {service["path"]: service for service in services}

    assert str(embedded_path) not in running()
    endpoint = embedded.ensure(embedded_path)
    service = running()[str(endpoint.path)]
    assert service["pid"] == endpoint.pid
    assert service["address"] == endpoint.address
    shown, _ = enter("status")
    assert str(endpoint.pid) in shown
    assert endpoint.token not in shown + json.dumps(running())

    assert "Stopped" in call("stop", str(embedded_path))[0]
    assert embedded.status(embedded_path) is None
    assert "No service is running" in enter("stop", str(embedded_path))[0]


def test_serve_stays_until_interrupted(embedded_path: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "serve", str(embedded_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until(lambda: embedded.status(embedded_path) or process.poll() is not None)
        assert process.poll() is None
        # What Ctrl-C does: the terminal signals the whole group
        os.killpg(process.pid, signal.SIGINT)
        # 130, interrupted, if the command has not heard yet that its service is ready
        assert process.wait(PATIENCE) in (0, 130)
        wait_until(lambda: embedded.status(embedded_path) is None)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_serve_ends_when_idle(embedded_path: Path) -> None:
    # It would take the pytest-timeout's minutes, or call()'s two, if it did not end by itself
    call("serve", str(embedded_path), "--idle", "1")
    assert embedded.status(embedded_path) is None


def test_what_needs_no_fiftyone_does_not_wait_for_it(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import takes seconds."""
    # Else the default data directory is none of FiftyOne's settings
    monkeypatch.delenv("FIFTYONE_MILVUS_PATH", raising=False)
    code = (
        "import sys\n"
        "from fiftyone_milvus import cli, embedded\n"
        "embedded.serve = lambda path, **how: print('served', path)\n"
        "heavy = {'fiftyone', 'pymilvus', 'milvus_lite', 'numpy', 'sklearn', 'pandas', 'torch'}\n"
        "for command in ('--help', 'status', 'serve', 'stop', 'list --help'):\n"
        "    sys.argv = ['fiftyone-milvus', *command.split()]\n"
        "    try:\n"
        "        cli.main()\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, command\n"
        "    assert not heavy & set(sys.modules), command\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({}, {}),
        ({"FIFTYONE_DATABASE_DIR": "~/elsewhere/../db"}, {"database_dir": "/not/this"}),
        ({"FIFTYONE_DATABASE_DIR": ""}, {"database_dir": "/data/mongo"}),
    ],
)
def test_settings_are_what_fiftyone_reads(
    variables: dict[str, str],
    config: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fiftyone as fo
    import fiftyone.core.config as foc

    monkeypatch.delenv("FIFTYONE_DATABASE_DIR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(path))
    expected = foc.load_config().database_dir
    with monkeypatch.context() as context:
        context.delitem(sys.modules, "fiftyone")
        assert str(fiftyone_config.database_dir()) == expected
        path.write_text("{ oops")
        assert fiftyone_config.setting("database_dir", "default") == (
            variables.get("FIFTYONE_DATABASE_DIR") or "default"
        )
    assert fiftyone_config.setting("database_dir") == fo.config.database_dir
