"""The documentation is true: its code runs, its commands and links exist."""

from __future__ import annotations

import ast
import json
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fiftyone as fo
import pytest
import typer
from docs.generate import errors

import fiftyone_milvus
from fiftyone_milvus import cli, embedded
from fiftyone_milvus.demo import digits, model
from tests.support.trained import trained_once
from tests.support.warm import WARM

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = sorted({*GUIDES, *ROOT.glob("*.md")})

# One block after the other in one namespace; the line numbers of a traceback are the page's
RUNNER = """
import json, sys
names = {"__name__": "__main__"}
for path, line, code in json.load(sys.stdin):
    exec(compile("\\n" * line + code, path, "exec"), names)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: what stands after the fence, or ``""``
        line: how many lines of the page are before its code
        code: what it holds
        runs: False below a ``<!-- no-run: reason -->``
    """

    language: str
    line: int
    code: str
    runs: bool


def blocks(page: Path) -> list[Block]:
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start, language, runs, above = None, "", True, ""
    for number, line in enumerate(lines):
        fence = re.match(r"\s*```\s*(\w*)", line)
        if fence is None:
            above = line.strip() or above
        elif start is None:
            start, language = number + 1, fence[1]
            runs = re.fullmatch(r"<!-- no-run: .+ -->", above) is None
        else:
            code = textwrap.dedent("\n".join(lines[start:number]))
            found.append(Block(language, start, code, runs))
            start, above = None, ""
    assert start is None, f"{page.name}: the block of line {start} has no end"
    return found


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def prose(page: Path) -> str:
    """Returns a page without its fenced blocks."""
    return re.sub(r"^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *#*$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def prepared(common: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the pages take for granted: the model and a sixth of the ``fiftyone-milvus demo``.

    Each page embeds it again.
    """
    folder = tmp_path_factory.mktemp("demo")
    sixth = [part[::6] for part in digits.scans()]
    with pytest.MonkeyPatch.context() as context:
        context.setattr(digits, "scans", lambda: sixth)
        context.setattr(digits, "NUM_TRAIN", digits.NUM_TRAIN // 6)
        context.setattr(digits, "_NUM_PAGES", digits._NUM_PAGES // 6)
        digits.build_images(folder / "images")
        digits.build_pages(folder / "pages")
    with trained_once(common):
        model.install()
    yield
    fo.delete_datasets("milvus-digit*")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """An empty directory; embedded engines that start in it end with the test."""
    yield tmp_path
    for service in embedded.list_services():
        if service.path.is_relative_to(tmp_path.resolve()):
            embedded.stop(service.path)


def test_there_are_pages_with_code() -> None:
    assert any(block.runs for page in GUIDES for block in python_blocks(page))


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name)
def test_python_compiles(page: Path) -> None:
    for block in python_blocks(page):
        compile("\n" * block.line + block.code, name(page), "exec")


@pytest.mark.parametrize(
    "page",
    [page for page in GUIDES if any(block.runs for block in python_blocks(page))],
    ids=name,
)
def test_python_runs(page: Path, prepared: None, elsewhere: Path, embedded_path: Path) -> None:
    script = [[name(page), block.line, block.code] for block in python_blocks(page) if block.runs]
    done = WARM.run(
        RUNNER,
        stdin=json.dumps(script),
        cwd=elsewhere,
        # What is found by itself, but for a server of another test
        env={**os.environ, "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI": str(embedded_path)},
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DeprecationWarning" not in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    shell = "\n".join(b.code for b in blocks(page) if b.language in ("", "bash", "sh", "console"))
    used = re.findall(r"^\s*(?:\$ )?fiftyone-milvus +([a-z][\w-]*)", shell, re.MULTILINE)
    used += re.findall(r"`fiftyone-milvus +([a-z][\w-]*)", prose(page))
    assert {*used} <= {*commands}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_images_exist(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    links = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text)
    links += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    links += re.findall(r"^\[[^\]]+\]: +(\S+)", text, re.MULTILINE)
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = page if not target else (page.parent / target).resolve()
        missing_anchor = anchor and path.suffix == ".md" and anchor not in anchors(path)
        if not path.exists() or missing_anchor:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("negative", "searching.md"),
        ("map", "maps.md"),
        ("review", "searching.md"),
        ("duplicates", "searching.md"),
        ("tls", "connecting.md"),
        ("view", "searching.md"),
    ],
)
def test_words_that_people_look_for_are_in_a_heading(word: str, page: str) -> None:
    headings = re.findall(r"^#+ +(.+)$", prose(ROOT / "docs" / page), re.MULTILINE)
    assert any(word in heading.lower() for heading in headings)


def test_the_search_icon_has_one_name() -> None:
    for page in PAGES:
        for line in prose(page).splitlines():
            if "magnifying glass" in line:
                assert "search icon" in line, f"{name(page)}: {line}"


def test_a_page_says_first_what_its_commands_download() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "commands.md"):
        text = page.read_text(encoding="utf-8")
        first = re.search(r"^ *fiftyone-milvus .*(quickstart|clip-vit)", text, re.MULTILINE)
        assert first is not None
        assert "pip install torch torchvision" in text[: first.start()]
        assert "fiftyone zoo datasets load quickstart" in text[: first.start()]


def templates() -> list[str]:
    """Returns the texts of our errors, with ``…`` for what differs."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_errors_of_troubleshooting_exist() -> None:
    text = prose(ROOT / "docs" / "troubleshooting.md")
    messages = re.findall(r"^\| (`+) ?(.+?) ?\1 \|", text, re.MULTILINE)
    known = templates()
    lost = []
    for _, message in messages:
        # What a row abbreviates may be several parts of a message, which may be one of several
        parts = [part for part in re.split("…", message) if len(part.strip(" ':")) > 3]
        if not all(any(part.strip(" '") in one for one in known) for part in parts):
            lost.append(message)
    assert len(messages) > 20
    assert lost == []


PASSED_ON = {"cli/engines.py", "embedded/database.py", "embedded/launch.py", "everywhere/search.py"}
"""Files that make an error of another error's text."""


def test_every_error_is_listed() -> None:
    listed = {
        line.removeprefix("- ").strip("` ")
        for line in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").splitlines()
    }
    found = errors.raised()
    assert len(found) > 300
    without = {one.where.partition(":")[0] for one in found if not one.messages}
    assert without <= PASSED_ON
    lost = [
        (one.where, message)
        for one in found
        for message in map(errors.message_of, one.messages)
        if message.strip("` ") not in listed
    ]
    assert lost == []
    # Each class that a user may catch has some; a DamagedError's become a CollectionDamagedError's
    kinds = {one.kind for one in found}
    ours = {n for n, c in vars(fiftyone_milvus.errors).items() if isinstance(c, type)}
    bases = {"CollectionError", "ConnectionFailedError"}
    assert {n for n in ours if n.endswith("Error")} - kinds == {*bases, "CollectionDamagedError"}


def test_architecture_names_every_room_and_file() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "fiftyone_milvus"
    rooms = {path.stem for path in package.iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    picture = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert picture
    assert rooms <= {*re.findall(r"\w+", picture[1])}
    assert rooms - {"_version"} <= {*re.findall(r"^- \*\*`(\w+)`\*\*", text, re.MULTILINE)}
    paths = re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?|[a-z_]+\.py)`", text)
    places = [ROOT / path if path.startswith("src/") else package / path for path in paths]
    lost = [str(p) for p in places if not p.exists() and not p.with_suffix(".py").exists()]
    assert lost == []
