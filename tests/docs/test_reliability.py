"""docs/reliability.md names a test for each fault; they are there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.test_docs import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
FAULTS = PAGE.partition("## Faults and their tests")[2]
TESTS = sorted(set(re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", FAULTS)))


def test_every_fault_has_a_test():
    rows = re.findall(r"^\| (?!fault |---)(.+) \|$", FAULTS, re.MULTILINE)
    assert len(rows) > 50
    assert all(".py" in row.split(" | ")[3] for row in rows)


@pytest.mark.parametrize("file", sorted({file for file, _ in TESTS}))
def test_the_tests_exist(file):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name for of, name in TESTS if of == file and name} <= names
