"""Evaluates the conditions of a compiled filter column by column.

Milvus Lite evaluates an expression with an array function row by row, in Python. Here, conditions
on arrays of strings and on lists are looked up. Comparisons of a column with a literal go to
Milvus Lite's vectorized evaluation, where its result is the same as row by row. Conditions on one
column are evaluated once for each of its values. The others are evaluated row by row, with only
the columns that they name.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from milvus_lite.search.filter import ast, evaluate_mask

from fiftyone_milvus.embedded.executor import in_lists
from fiftyone_milvus.embedded.executor.in_lists import Membership
from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError
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
#: The column of the distinct values.
_VALUE = "value"


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
    """Evaluates a compiled filter over the rows of a part.

    Args:
        part: the rows.
        col: Milvus Lite's collection.
        compiled: Milvus Lite's compiled filter, without dynamic fields.
        lists: the long lists that were cut out of it.
    """

    def __init__(self, part: LivePart, col: Any, compiled: Any, lists: LongLists) -> None:
        self._part = part
        self._compiled = compiled
        self._lists = lists
        self._pk_name = col._pk_name
        self._fields = {f.name: f for f in col._schema.fields}
        self._by_row = compiled.backend == "python"

    def mask(self) -> Mask:
        """Which rows match; dead rows may match, too.

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
        if isinstance(node, ast.InOp):
            if self._is_looked_up(node):
                return self._member(node)
            node = self._with_integers(node)
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

    def _is_looked_up(self, node: Any) -> bool:
        kind = self._type_of(node.field)
        return kind == "VARCHAR" or (
            kind == "INT64"
            and all(
                isinstance(e, ast.IntLit) and abs(e.value) < 2**63 for e in node.values.elements
            )
        )

    def _member(self, node: Any) -> Truth:
        name = node.field.name
        member = Membership(name, self._values(node.values))
        found = in_lists.mask_of_part(self._part, member, self._pk_name)
        # Row by row, a null makes the condition unknown; vectorized, a null is in no list.
        truth = Truth.of(found)
        if self._by_row and self._nulls(name):
            truth = Truth(found, ~found & _bools(self._part.column(name).is_valid()))
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
            return Truth.of(tokens(self._part, name).having_any(words))
        if len(words) < len(literals):
            return Truth.of(np.zeros(self._part.rows, dtype=bool))
        return Truth.of(tokens(self._part, name).having_all(words))

    def _length(self, name: str, op: str, value: float) -> Truth:
        return Truth.of(_COMPARISONS[op](tokens(self._part, name).lengths, value))

    def _values(self, node: Any) -> list[Any]:
        values = [element.value for element in node.elements]
        return self._lists.get(values[0], values) if len(values) == 1 else values

    # conditions that Milvus Lite evaluates

    def _with_integers(self, node: Any) -> Any:
        """The condition with a long list of integers that was cut out of it."""
        literals, pos = node.values.elements, node.pos
        if len(literals) != 1 or not isinstance(literals[0], ast.IntLit):
            return node
        values = tuple(ast.IntLit(value, pos) for value in self._values(node.values))
        return dataclasses.replace(node, values=ast.ListLit(values, pos))

    def _other(self, node: Any) -> Truth:
        if self._lists and any(value in self._lists for value in _literals(node)):
            raise UnsupportedError("a long list of another kind")
        names = sorted(set(_names(node))) or [self._pk_name]
        nulls = any(map(self._nulls, names))
        by_row = self._by_row and not self._is_same_vectorized(node, nulls)
        source = _only_source(node)
        column = None if source is None else self._column_of(*source)
        if column is not None and not pa.types.is_nested(column.type):
            is_encoded = pa.types.is_dictionary(column.type)
            if by_row and isinstance(node, ast.LikeOp) and not is_encoded:
                return _like(column, node.pattern.value)
            if by_row or is_encoded:
                return self._by_value(node, column if is_encoded else column.dictionary_encode())
        table = plain_table(self._part, names)
        true = self._evaluated(node, table, by_row)
        if not (nulls or by_row):
            return Truth.of(true)
        return Truth(true, self._evaluated(ast.Not(node, node.pos), table, by_row))

    def _by_value(self, node: Any, column: pa.DictionaryArray) -> Truth:
        """Evaluates a condition on one column for each value that this has, and for null."""
        values = pa.concat_arrays([column.dictionary, pa.nulls(1, column.dictionary.type)])
        table = pa.table({_VALUE: values})
        codes = pc.fill_null(column.indices, len(column.dictionary)).to_numpy()
        node = _renamed(node)
        true, false = (
            self._evaluated(one, table, self._by_row).take(codes)
            for one in (node, ast.Not(node, node.pos))
        )
        return Truth(true, false)

    def _evaluated(self, node: Any, table: pa.Table, by_row: bool) -> Mask:
        backend = "python" if by_row else "arrow"
        condition = dataclasses.replace(self._compiled, ast=node, backend=backend)
        return np.asarray(evaluate_mask(condition, table), dtype=bool)

    def _column_of(self, name: str, index: int | None) -> pa.Array:
        """A column, or an element of the list that it has in each row."""
        column = self._part.column(name)
        if index is None:
            return column
        beyond = pc.less_equal(pc.fill_null(column.value_lengths(), 0), index)
        starts = column.offsets.to_numpy()[:-1] + index
        return column.values.take(pa.array(starts, mask=beyond.to_numpy(zero_copy_only=False)))

    def _is_same_vectorized(self, node: Any, nulls: bool) -> bool:
        """Whether Milvus Lite's two ways to evaluate a condition give the same truth."""
        if isinstance(node, ast.FieldRef):
            return self._type_of(node) == "BOOL"
        if isinstance(node, ast.IsNullOp):
            return isinstance(node.field, ast.FieldRef)
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
        return bool(self._part.column(name).null_count)


def plain_table(part: LivePart, names: Sequence[str]) -> pa.Table:
    """Some columns of a part, none of them dictionary-encoded."""
    table = part.table(names)
    for place, name in enumerate(names):
        kind = table.schema.field(name).type
        if pa.types.is_dictionary(kind):
            table = table.set_column(place, name, table.column(name).cast(kind.value_type))
    return table


def has_dynamic_fields(compiled: Any) -> bool:
    """Whether a compiled filter names fields that are not in the schema."""
    return any(isinstance(node, ast.MetaAccess) for node in _nodes(compiled.ast))


def names_of(compiled: Any) -> list[str]:
    """The columns that a compiled filter names."""
    return sorted(set(_names(compiled.ast)))


def _like(column: pa.Array, pattern: str) -> Truth:
    """``like`` as Milvus Lite's row by row: unlike its vectorized one, it has no escapes."""
    wildcards = {"%": ".*", "_": "."}
    text = "".join(
        wildcards.get(c) or (c if c.isalnum() or not c.isascii() else f"\\x{{{ord(c):x}}}")
        for c in pattern
    )
    # Python's $ also matches before a line's end
    found = pc.match_substring_regex(column, rf"(?s)\A{text}\n?\z")
    true = _bools(pc.fill_null(found, False))
    return Truth(true, _bools(column.is_valid()) & ~true)


def _bools(array: pa.Array) -> Mask:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)


def _only_source(node: Any) -> tuple[str, int | None] | None:
    """The column, or element of a column's lists, that a condition is about; None for several."""
    found = set(_sources(node))
    return found.pop() if len(found) == 1 else None


def _sources(node: Any) -> Iterator[tuple[str, int | None]]:
    if isinstance(node, tuple):
        for child in node:
            yield from _sources(child)
    elif (source := _source(node)) is not None:
        yield source
    elif dataclasses.is_dataclass(node):
        yield from _sources(tuple(vars(node).values()))


def _source(node: Any) -> tuple[str, int | None] | None:
    if isinstance(node, ast.FieldRef):
        return node.name, None
    if isinstance(node, ast.PathAccess) and isinstance(node.base, ast.FieldRef):
        return (node.base.name, node.path[0]) if _is_index(node.path) else None
    return None


def _is_index(path: tuple[Any, ...]) -> bool:
    return len(path) == 1 and isinstance(path[0], int) and path[0] >= 0


def _renamed(node: Any) -> Any:
    """A condition about one source, with :data:`_VALUE` in its place."""
    if isinstance(node, tuple):
        return tuple(map(_renamed, node))
    if _source(node) is not None:
        return ast.FieldRef(_VALUE, node.pos)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return type(node)(**{name: _renamed(child) for name, child in vars(node).items()})
    return node


def _names(node: Any) -> Iterator[str]:
    return (n.name for n in _nodes(node) if isinstance(n, ast.FieldRef))


def _literals(node: Any) -> Iterator[str | int]:
    return (n.value for n in _nodes(node) if isinstance(n, (ast.StringLit, ast.IntLit)))


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, tuple):
        for child in node:
            yield from _nodes(child)
    elif dataclasses.is_dataclass(node):
        yield node
        yield from _nodes(tuple(vars(node).values()))
