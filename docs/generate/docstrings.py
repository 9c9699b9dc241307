"""Docstrings as the reference pages need them. They are Google-style, with FiftyOne's defaults."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import griffe


class Argument(NamedTuple):
    """An entry of a section, as ``name (default): what it is``."""

    name: str
    default: str | None
    text: str


def arguments(thing: Any, section: str = "Args") -> list[Argument]:
    """Returns the entries of a section of a docstring, each as one line of Markdown."""
    lines = inspect.getdoc(thing).splitlines()
    start = lines.index(f"{section}:") + 1
    found: list[list[str]] = []
    for line in lines[start:]:
        if line and not line.startswith(" "):
            break
        if re.match(r"    \S", line):
            found.append([line.strip()])
        elif line.strip():
            found[-1].append(line.strip())
    return [_argument(" ".join(entry)) for entry in found]


def _argument(line: str) -> Argument:
    name, default, text = re.match(r"(\*{0,2}\w+)(?: \((.*?)\))?: (.*)", line).groups()
    return Argument(name, default, markdown(text))


def markdown(text: str) -> str:
    """Returns a docstring's text as Markdown."""
    text = re.sub(r":\w+:`(?:[~\w.]*\.)?([\w()]+)(?: <[^>]+>)?`", r"`\1`", text)
    return text.replace("``", "`")


_DEFAULT = re.compile(r"^(    \*{0,2}\w+) \([^)]*\):", re.MULTILINE)


class FiftyOneStyle(griffe.Extension):
    """A griffe extension: docstrings of the package as mkdocstrings can render them.

    FiftyOne writes ``name (default): text``. Google's style takes the parentheses for a type.
    Types and defaults then come from the signature.
    """

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of an object."""
        if obj.docstring is not None:
            text = _DEFAULT.sub(r"\1:", markdown(obj.docstring.value))
            # reStructuredText's mark of a block of code, which Markdown shows
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
