"""What commands print: data as it is, errors as one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from fiftyone_milvus import cli, embedded, inventory
from fiftyone_milvus.cli import output
from fiftyone_milvus.inventory.runs import Run
from tests.cli.support import enter, refused


def commands() -> Iterator[tuple[str, Any]]:
    root: Any = typer.main.get_command(cli.app)
    for name, command in root.commands.items():
        for inner, one in getattr(command, "commands", {"": command}).items():
            yield f"{name} {inner}".strip(), one


def test_every_command_prints_json() -> None:
    without = {
        name
        for name, command in commands()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == {"demo", "serve"}


def test_what_looks_like_markup_is_data() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        output.print_table(("path",), [("/photos [raw]/1.jpg",), ("[/x] :cat:",)])
    assert "/photos [raw]/1.jpg" in out.getvalue()
    assert "[/x] :cat:" in out.getvalue()


def test_what_is_piped_is_not_cut() -> None:
    row = ("/photos/" + "a" * 300, "b" * 50)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        output.print_table(("path", "collection"), [row])
    assert row in [tuple(line.split()) for line in out.getvalue().splitlines()]


def test_a_wide_table_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes a list at 60 columns, is folded above, and nothing is lost."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    row = ("quickstart", "similar", "/photos/" + "a" * 100)

    def shown(columns: int, *rows: tuple[str, ...]) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            output.print_table(("dataset", "brain key", "path"), rows)
        return re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()).splitlines()

    listed = ["", "dataset    quickstart", "brain key  similar", f"path       {row[2]}"]
    assert shown(60, row, row) == [*listed, *listed]
    folded = shown(80, row)
    assert max(map(len, folded)) <= 80
    assert "".join(folded).count("a") >= 100
    assert "quickstart" in "".join(folded)
    assert len(shown(60, ("a", "b", "c"))) > 2
    assert not any(line.startswith("dataset  ") for line in shown(60, ("a", "b", "c"))[2:])


def test_any_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory\n  tried to allocate 20 GiB")

    monkeypatch.setattr(embedded, "list_services", fail)
    line = "RuntimeError: out of memory tried to allocate 20 GiB"
    assert refused("status") == line
    monkeypatch.setenv(cli.TRACEBACK, "1")
    _, err = enter("status", exit_code=1)
    assert "Traceback (most recent call last)" in err
    assert f"Error: {line}" in err


def test_a_server_needs_no_embedded_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "list_services", list)
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI", "/data/vectors.db")
    assert "the first use starts one" in enter("status")[0]
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI", "https://user:secret@milvus:19530")
    out, _ = enter("status")
    assert "the brain config names a server" in out
    assert "secret" not in out


def test_whoever_comes_from_the_built_in_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("photos", "theirs", "c", "cosine", "none", False, True)
    monkeypatch.setattr(inventory, "built_in_runs", lambda: [run])
    monkeypatch.setattr(inventory, "datasets", list)
    assert "fiftyone-milvus adopt photos theirs" in enter("list")[0]


def test_an_id_is_not_searched_for_as_a_text() -> None:
    said = refused("search", "--everywhere", "--id", "66f0c5")
    assert said == "Invalid ID '66f0c5' of a sample or label; expected 24 hexadecimal digits"


def test_a_part_that_there_is_not_is_wrong_usage() -> None:
    _, err = enter("delete", "photos", "similar", "--only", "typo", exit_code=2)
    assert "expected run or collection" in err
