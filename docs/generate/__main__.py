"""``python -m docs.generate`` writes the pages; ``--check`` only says which are out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generate import PAGES

DOCS = Path(__file__).parents[1]


def main() -> int:
    """Writes or checks the pages; returns the exit code."""
    old = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if old and "--check" in sys.argv:
        print(f"Out of date: {', '.join(old)}; run `make reference`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
