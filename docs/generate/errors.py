"""The page of all error messages, read from the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).parents[2] / "src" / "fiftyone_milvus"
_VARIES = "…"
_INTERNAL = {"UnsupportedError"}
"""Errors that nobody is shown: Milvus Lite's own code answers then."""
_TEXT = re.compile(r"[A-Za-z]{3,}.*[a-z]", re.DOTALL)

_HEAD = """\
# Error messages

<!-- Written by `make reference`; change the code instead. -->

All errors that this package raises, by class. `…` stands for the part that differs. Each says what to do; those that need more
than their line are explained in [troubleshooting](troubleshooting.md). The classes are in `fiftyone_milvus.errors`
([reference](reference.md#errors)). A `DamagedError` and its like are what the service of the embedded engine answers; a
call raises them as a `CollectionDamagedError` or an `EngineError`. A `BadParameter` is a wrong use of a command.
"""


class Raised:
    """A place in the code that makes an error.

    Attributes:
        kind: the name of its class
        where: the file and the line
        messages: its texts; none if it takes a text that was made elsewhere
    """

    def __init__(self, kind: str, where: str, messages: list[str]) -> None:
        self.kind, self.where, self.messages = kind, where, messages


class _Module:
    """A file of the package, and the texts in it."""

    def __init__(self, path: Path, kinds: set[str]) -> None:
        self._path, self._kinds = path, kinds
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self._functions = {
            node.name: node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef)
        }
        self.package: dict[str, _Module] = {}
        """The file of each function or constant whose name no other file has."""

    def names(self) -> Iterator[str]:
        """Yields the names of functions and constants."""
        yield from self._functions
        for node in ast.iter_child_nodes(self._tree):
            if isinstance(node, ast.Assign):
                yield from (getattr(target, "id", "") for target in node.targets)

    def raised(self) -> Iterator[Raised]:
        """Yields all places that make an error."""
        inside: dict[ast.AST, ast.AST] = {}
        for function in self._functions.values():
            inside.update(dict.fromkeys(ast.walk(function), function))
        for node in ast.walk(self._tree):
            kind: ast.expr | None = None
            text: ast.expr | None = None
            if isinstance(node, ast.Call) and node.args:
                kind, text = node.func, node.args[0]
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
                kind, text = node.elts
            if kind is None or text is None:
                continue
            name = getattr(kind, "attr", getattr(kind, "id", ""))
            if name not in self._kinds:
                continue
            messages = self._texts(text, inside.get(node, self._tree), 3)
            if messages or isinstance(node, ast.Call):  # a tuple may be of two classes
                where = f"{self._path.relative_to(_PACKAGE).as_posix()}:{node.lineno}"
                yield Raised(name, where, messages)

    def _texts(self, node: ast.expr, scope: ast.AST, depth: int) -> list[str]:
        """Returns what a text may be: it is known as far as its parts are in this file."""
        found: list[str] = []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = [node.value]
        elif isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else _VARIES for p in node.values]
            found = ["".join(map(str, parts))]
            first = node.values[0]
            if not _TEXT.search(found[0].replace(_VARIES, "")) and not isinstance(
                first, ast.Constant
            ):
                rest = found[0].removeprefix(_VARIES)
                found = [text + rest for text in self._texts(first.value, scope, depth)]  # type: ignore[attr-defined]
        elif isinstance(node, ast.BinOp):
            left = self._texts(node.left, scope, depth) or [_VARIES]
            right = self._texts(node.right, scope, depth) or [_VARIES]
            found = [one + other for one in left for other in right]
        elif isinstance(node, ast.IfExp):
            found = [
                text
                for part in (node.body, node.orelse)
                for text in self._texts(part, scope, depth)
            ]
        elif isinstance(node, ast.Name) and depth:
            for there in (scope, self._tree):
                for assigned in ast.walk(there):
                    if isinstance(assigned, ast.Assign) and any(
                        getattr(target, "id", "") == node.id for target in assigned.targets
                    ):
                        found += self._texts(assigned.value, scope, depth - 1)
                if found:
                    break
            other = self.package.get(node.id)
            if not found and other not in (None, self):
                found = other._texts(node, other._tree, depth - 1)
        elif isinstance(node, ast.Call) and depth:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            file = self if name in self._functions else self.package.get(name, self)
            function = file._functions.get(name)
            for part in ast.walk(function) if function else ():
                if isinstance(part, ast.Return) and part.value is not None:
                    found += file._texts(part.value, function or scope, depth - 1)
        return [text for text in found if _TEXT.search(text.replace(_VARIES, ""))]


def raised() -> list[Raised]:
    """Returns all places in the code that make one of our errors."""
    files = sorted(_PACKAGE.rglob("*.py"))
    kinds = {"BadParameter", *_descriptions()} - _INTERNAL
    modules = [_Module(file, kinds) for file in files]
    owners: dict[str, list[_Module]] = {}
    for module in modules:
        for name in {*module.names()}:
            owners.setdefault(name, []).append(module)
    package = {name: found[0] for name, found in owners.items() if len(found) == 1}
    for module in modules:
        module.package = package
    return [one for module in modules for one in module.raised()]


def message_of(text: str) -> str:
    """Returns a text as it is on the page: one line, in which each varying part is one ``…``."""
    return re.sub(rf"{_VARIES}(\s*{_VARIES})+", _VARIES, " ".join(text.split())).strip()


def _descriptions() -> dict[str, str]:
    """Returns the names of all classes of errors, with the first sentence of their docstring."""
    found: dict[str, str] = {}
    for file in [_PACKAGE / "errors.py", *sorted(_PACKAGE.rglob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found[node.name] = (ast.get_docstring(node) or "").split("\n\n")[0]
    return found


def page() -> str:
    """Returns the text of the page."""
    by_kind: dict[str, set[str]] = {}
    for one in raised():
        by_kind.setdefault(one.kind, set()).update(map(message_of, one.messages))
    parts = [_HEAD]
    for kind, text in {**_descriptions(), "BadParameter": "A command is used wrongly."}.items():
        messages = sorted(by_kind.get(kind, ()), key=lambda m: m.lstrip(f"{_VARIES}' ").lower())
        if messages:
            parts.append(f"## {kind}\n\n{' '.join(text.split())}\n")
            parts.append("\n".join(f"- {_code(message)}" for message in messages) + "\n")
    return "\n".join(parts)


def _code(message: str) -> str:
    return f"`` {message} ``" if "`" in message else f"`{message}`"
