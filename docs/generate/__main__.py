"""``python -m docs.generate`` writes the pages; ``--check`` only says what is wrong.

``--check`` also refuses the retired terms of the glossary.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generate import PAGES, words

DOCS = Path(__file__).parents[1]


def main() -> int:
    """Writes or checks the pages; returns the exit code."""
    check = "--check" in sys.argv
    old = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if not check:
        return 0
    problems = words.problems()
    if old:
        problems.append(f"Out of date: {', '.join(old)}; run `make reference`")
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
