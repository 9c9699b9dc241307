"""Looks for a text in files."""

from __future__ import annotations

from pathlib import Path


def holders(text: str, *folders: Path) -> list[Path]:
    """Returns the files, at any depth, that hold a text, in their content or their name."""
    found = {file for folder in folders for file in folder.rglob("*")}
    return sorted(
        file
        for file in found
        if text in file.name or (file.is_file() and text.encode() in file.read_bytes())
    )
