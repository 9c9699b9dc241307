"""The check of retired terms: the last column of the glossary's tables names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
_COLUMNS = ("retired", "not")
_TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
# Words of an identifier too: `FOUND_NOBODY` and `NobodyFound` have the word "nobody"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Between the words of a term: a space, the start of a comment's next line, or nothing in an identifier
_GAP = re.compile(r"[\s_#>*-]*")
# Documented before the glossary was: an attribute of IndexInfo, and a key of what --json prints
_KEPT = re.compile(r"\bin_step\b")


class Hit(NamedTuple):
    """A retired term in a file; ``line`` counts from 1."""

    path: Path
    line: int
    term: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.term!r} is retired; see docs/glossary.md"


def retired(glossary: Path = GLOSSARY) -> list[str]:
    """Returns the retired terms of a glossary, in lower case."""
    found: list[str] = []
    column = False
    for line in glossary.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            column = False
        elif cells[-1] in _COLUMNS:
            column = True
        elif column and not set(cells[-1]) <= set("-: "):
            found += [term.strip().lower() for term in cells[-1].split(",") if term.strip()]
    return found


def checked_files(root: Path = ROOT) -> list[Path]:
    """Returns the files that may not use retired terms."""
    src = (path for path in (root / "src").rglob("*") if path.suffix in (".py", ".yml"))
    pages = (path for path in (root / "docs").glob("*.md") if path.name != GLOSSARY.name)
    examples = (root / "examples").glob("*.py")
    return sorted(chain(src, pages, examples, (root / name for name in _TOP)))


def hits(paths: Iterable[Path], terms: Iterable[str]) -> Iterator[Hit]:
    """Finds terms in files, whole words only, in any case, in text and in identifiers."""
    split = [tuple(term.split()) for term in terms]
    for path in paths:
        text = _KEPT.sub(lambda kept: "_" * len(kept[0]), path.read_text(encoding="utf-8"))
        words = [(m.group().lower(), m.start(), m.end()) for m in _WORD.finditer(text)]
        for i, (word, start, _) in enumerate(words):
            for term in split:
                if word == term[0] and _follows(text, words[i : i + len(term)], term):
                    yield Hit(path, text.count("\n", 0, start) + 1, " ".join(term))


def _follows(text: str, words: list[tuple[str, int, int]], term: tuple[str, ...]) -> bool:
    if tuple(word for word, _, _ in words) != term:
        return False
    gaps = (text[a[2] : b[1]] for a, b in pairwise(words))
    return all(_GAP.fullmatch(gap) for gap in gaps)


def problems() -> list[str]:
    """Returns a line for each retired term in the project."""
    found = hits(checked_files(), retired())
    return [str(hit._replace(path=hit.path.relative_to(ROOT))) for hit in found]
