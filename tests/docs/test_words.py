"""The check of retired terms finds them in text and in names, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.generate import words

GLOSSARY = """\
# Glossary

| term | meaning | retired |
|---|---|---|
| no result | a search that found nothing | nobody |
| up to date | the index has all vectors | in step, surplus |
| row | one vector | |

| say | not |
|---|---|
| returns | hands |

| other | table |
|---|---|
| left | alone |
"""


@pytest.fixture
def terms(tmp_path: Path) -> list[str]:
    glossary = tmp_path / "glossary.md"
    glossary.write_text(GLOSSARY, encoding="utf-8")
    return words.retired(glossary)


def test_the_last_column_is_read(terms: list[str]) -> None:
    assert terms == ["nobody", "in step", "surplus", "hands"]


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("Nobody answers.", "nobody"),
        ("NOBODY = 1", "nobody"),
        ("found_nobody()", "nobody"),
        ("class FoundNobody:", "nobody"),
        ("class HTTPSurplus:", "surplus"),
        ("in_step_with", "in step"),
        ("class InStep:", "in step"),
        ("# an index that is in\n    # step with it", "in step"),
        ("it hands back", "hands"),
    ],
)
def test_a_retired_term_is_found(text: str, term: str, terms: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"first\n{text}\n", encoding="utf-8")
    assert list(words.hits([path], terms)) == [words.Hit(path, 2, term)]


@pytest.mark.parametrize(
    "text",
    ["anybody", "by hand", "handsome", "step in", "Come in. Step by step.", "info.in_step"],
)
def test_other_words_are_not(text: str, terms: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    assert list(words.hits([path], terms)) == []


def test_the_project_is_checked() -> None:
    names = {path.relative_to(words.ROOT).as_posix() for path in words.checked_files()}
    assert {"README.md", "CHANGELOG.md", "docs/guide.md", "examples/quickstart.py"} <= names
    assert "src/fiftyone_milvus/backend.py" in names
    assert "docs/glossary.md" not in names
    assert "nobody" in words.retired()
