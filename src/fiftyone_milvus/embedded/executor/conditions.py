"""Evaluates the conditions of a compiled filter column by column.

Milvus Lite evaluates an expression with an array function row by row, in Python. Here, conditions
on arrays of strings and on lists are looked up. Comparisons of a column with a literal go to
Milvus Lite's vectorized evaluation, where its result is the same as row by row. Other conditions
are evaluated row by row, with only the columns that they name.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np
from milvus_lite.search.filter import ast, evaluate_mask

from fiftyone_milvus.embedded.executor import in_lists
from fiftyone_milvus.embedded.executor.in_lists import Membership
from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError, View
from fiftyone_milvus.embedded.executor.long_lists import LongLists
from fiftyone_milvus.embedded.executor.parts import LivePart, Mask
from fiftyone_milvus.embedded.executor.tokens import tokens

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LITERALS = (ast.StringLit, ast.IntLit, ast.FloatLit, ast.BoolLit)
_INTEGERS = ("INT8", "INT16", "INT32", "INT64")
_FLOATS = ("FLOAT", "DOUBLE")
#: Larger integers are not all floats, and Arrow compares an integer with a float as floats.
_EXACT = 2**53


@dataclasses.dataclass(frozen=True)
class Truth:
    """Where a condition is true and where it is false; elsewhere a null makes it unknown."""

    true: Mask
    false: Mask

    @staticmethod
    def of(mask: Mask) -> Truth:
        """A condition that is never unknown."""
        return Truth(mask, ~mask)

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.true & other.true, self.false | other.false)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.true | other.true, self.false & other.false)

    def __invert__(self) -> Truth:
        return Truth(self.false, self.true)


class Conditions:
    """Evaluates a compiled filter over the rows of a view.

    Args:
        view: the rows.
        col: Milvus Lite's collection; it has no dynamic fields.
        compiled: Milvus Lite's compiled filter.
        lists: the long lists that were cut out of it.
    """

    def __init__(self, view: View, col: Any, compiled: Any, lists: LongLists) -> None:
        self._view = view
        self._compiled = compiled
        self._lists = lists
        self._pk_name = col._pk_name
        self._fields = {f.name: f for f in col._schema.fields}
        self._by_row = compiled.backend == "python"

    def mask(self) -> Mask:
        """Which rows of the view match; dead rows may match, too.

        Raises:
            UnsupportedError: Milvus Lite must evaluate the filter as a whole.
        """
        return self._truth(self._compiled.ast).true

    def _truth(self, node: Any) -> Truth:
        if isinstance(node, ast.And):
            return reduce(operator.and_, map(self._truth, node.operands))
        if isinstance(node, ast.Or):
            return reduce(operator.or_, map(self._truth, node.operands))
        if isinstance(node, ast.Not):
            return ~self._truth(node.operand)
        if isinstance(node, ast.InOp) and self._type_of(node.field) == "VARCHAR":
            return self._member(node)
        if isinstance(node, ast.ArrayContainsOp) and self._is_strings(node.value):
            return self._contains(node)
        if isinstance(node, ast.CmpOp):
            for left, right, op in (
                (node.left, node.right, node.op),
                (node.right, node.left, _MIRRORED.get(node.op, node.op)),
            ):
                if (
                    isinstance(left, ast.ArrayLengthOp)
                    and self._is_strings(left.value)
                    and isinstance(right, (ast.IntLit, ast.FloatLit))
                ):
                    return self._length(left.value.name, op, right.value)
        return self._other(node)

    # conditions that are looked up

    def _member(self, node: Any) -> Truth:
        name = node.field.name
        found = in_lists.mask_of(
            self._view, Membership(name, self._values(node.values)), self._pk_name
        )
        # Row by row, a null makes the condition unknown; vectorized, a null is in no list.
        truth = Truth.of(found)
        if self._by_row and self._nulls(name):
            given = self._over_parts(lambda p: ~np.asarray(p.table().column(name).is_null()))
            truth = Truth(found, ~found & given)
        return ~truth if node.negate else truth

    def _contains(self, node: Any) -> Truth:
        name, values = node.value.name, node.values
        if isinstance(values, ast.ListLit):
            if node.mode == "any_one":
                raise UnsupportedError("array_contains of a list")
            literals = self._values(values)
        elif isinstance(values, _LITERALS):
            literals = [values.value]
        else:
            return self._other(node)
        words = [value for value in literals if isinstance(value, str)]
        if node.mode != "all":
            return Truth.of(self._over_parts(lambda p: tokens(p, name).having_any(words)))
        if len(words) < len(literals):
            return Truth.of(np.zeros(int(self._view.offsets[-1]), dtype=bool))
        return Truth.of(self._over_parts(lambda p: tokens(p, name).having_all(words)))

    def _length(self, name: str, op: str, value: float) -> Truth:
        compare = _COMPARISONS[op]
        return Truth.of(self._over_parts(lambda p: compare(tokens(p, name).lengths, value)))

    def _values(self, node: Any) -> list[Any]:
        values = [element.value for element in node.elements]
        return self._lists.get(values[0], values) if len(values) == 1 else values

    # conditions that Milvus Lite evaluates

    def _other(self, node: Any) -> Truth:
        names = sorted(set(_names(node))) or [self._pk_name]
        nulls = any(map(self._nulls, names))
        by_row = self._by_row and not self._is_same_vectorized(node, nulls)
        if self._lists and any(s in self._lists for s in _strings(node)):
            raise UnsupportedError("a long list of another kind")
        true = self._evaluated(node, names, by_row)
        if not (nulls or by_row):
            return Truth.of(true)
        return Truth(true, self._evaluated(ast.Not(node, node.pos), names, by_row))

    def _evaluated(self, node: Any, names: list[str], by_row: bool) -> Mask:
        backend = "python" if by_row else "arrow"
        condition = dataclasses.replace(self._compiled, ast=node, backend=backend)
        return self._over_parts(lambda p: evaluate_mask(condition, p.table().select(names)))

    def _is_same_vectorized(self, node: Any, nulls: bool) -> bool:
        """Whether Milvus Lite's two ways to evaluate a condition give the same truth."""
        if isinstance(node, ast.FieldRef):
            return self._type_of(node) == "BOOL"
        if isinstance(node, ast.CmpOp):
            kind, values, op = self._type_of(node.left), [node.right], node.op
            if kind is None:
                kind, values = self._type_of(node.right), [node.left]
        elif isinstance(node, ast.InOp) and not nulls:
            kind, values, op = self._type_of(node.field), list(node.values.elements), "in"
        else:
            return False
        if kind == "VARCHAR":
            return all(isinstance(v, ast.StringLit) for v in values)
        if kind == "BOOL":
            return op in ("==", "!=") and all(isinstance(v, ast.BoolLit) for v in values)
        if op == "in" and kind not in ("INT64", "DOUBLE"):
            return False  # Arrow casts the list to the column's type
        if kind in _INTEGERS:
            return all(isinstance(v, ast.IntLit) and abs(v.value) < 2**63 for v in values)
        if kind in _FLOATS:
            # As members of a list, 0.0 and -0.0 differ for Arrow.
            return all(
                isinstance(v, ast.FloatLit)
                or (isinstance(v, ast.IntLit) and abs(v.value) <= _EXACT)
                for v in values
            ) and not (op == "in" and any(v.value == 0 for v in values))
        return False

    # the columns

    def _type_of(self, node: Any) -> str | None:
        if isinstance(node, ast.FieldRef) and node.name in self._fields:
            return str(self._fields[node.name].dtype.name)
        return None

    def _is_strings(self, node: Any) -> bool:
        return (
            self._type_of(node) == "ARRAY"
            and self._fields[node.name].element_type.name == "VARCHAR"
        )

    def _nulls(self, name: str) -> bool:
        return any(part.table().column(name).null_count for part in self._view.parts)

    def _over_parts(self, masks: Callable[[LivePart], Any]) -> Mask:
        found = [np.asarray(masks(part), dtype=bool) for part in self._view.parts]
        return np.concatenate(found) if found else np.zeros(0, dtype=bool)


def _names(node: Any) -> Iterator[str]:
    return (n.name for n in _nodes(node) if isinstance(n, ast.FieldRef))


def _strings(node: Any) -> Iterator[str]:
    return (n.value for n in _nodes(node) if isinstance(n, ast.StringLit))


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, tuple):
        for child in node:
            yield from _nodes(child)
    elif dataclasses.is_dataclass(node):
        yield node
        yield from _nodes(tuple(vars(node).values()))
