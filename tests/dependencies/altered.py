"""Copies of installed packages in which a name is another one, as a later version may have it."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path


def altered(folder: Path, packages: str, names: dict[str, str]) -> Path:
    """Copies packages, and replaces names in all their modules and in the modules' own names.

    Args:
        folder: where to
        packages: their names, with a space between two
        names: the new name of each that changes

    Returns:
        the folder, for ``PYTHONPATH``
    """
    for package in packages.split():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        copy = folder / package
        shutil.copytree(Path(spec.origin).parent, copy, ignore=shutil.ignore_patterns("*.pyc"))
        for file in copy.rglob("*.py"):
            text = file.read_text("utf-8")
            for old, new in names.items():
                text = re.sub(rf"\b{re.escape(old)}\b", new, text)
            file.write_text(text, "utf-8")
        # The deepest first: those above take the others along
        for path in sorted(copy.rglob("*"), reverse=True):
            if path.stem in names:
                path.rename(path.with_name(names[path.stem] + path.suffix))
    return folder
