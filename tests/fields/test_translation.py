"""The rules behind the translation of views, without any engine."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timezone
from typing import Any

import pytest
from bson import ObjectId
from fiftyone import ViewField as F
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_milvus.fields.translate import aggregation, conditions, pipeline, predicates
from fiftyone_milvus.fields.translate.conditions import ALL, NONE, Atom, Constant, Untranslatable
from fiftyone_milvus.fields.translate.documents import Document, Scalar, Strings
from fiftyone_milvus.schema.columns import Column, Kind

TEXT = Column("text", "text", Kind.STRING)
NUMBER = Column("number", "number", Kind.INT)
SCORE = Column("score", "score", Kind.FLOAT)
FLAG = Column("flag", "flag", Kind.BOOL)
DAY = Column("day", "day", Kind.DATE)
TAGS = Column("tags", "tags", Kind.STRINGS)

TREES = st.recursive(
    st.one_of(
        st.sampled_from([ALL, NONE]),
        st.sampled_from("abc").map(lambda name: Atom(f"{name} == 1", f"{name} != 1", name)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda parts: conditions.every(*parts), st.lists(inner, max_size=3)),
        st.builds(lambda parts: conditions.some(*parts), st.lists(inner, max_size=3)),
        st.builds(conditions.negated, inner),
    ),
)
ROWS = st.fixed_dictionaries(dict.fromkeys("abc", st.sampled_from([0, 1])))


def _holds(condition: Any, row: dict[str, int]) -> bool:
    if isinstance(condition, Constant):
        return condition.value
    return bool(eval(conditions.written(condition), {}, row))  # Python's syntax, too


def _written(condition: Any) -> str:
    return (
        str(condition.value) if isinstance(condition, Constant) else conditions.written(condition)
    )


@given(TREES, TREES, TREES, ROWS)
def test_conditions_are_an_algebra(a: Any, b: Any, c: Any, row: dict[str, int]) -> None:
    in_a, in_b, in_c = (_holds(condition, row) for condition in (a, b, c))
    assert _holds(conditions.every(a, b, c), row) == (in_a and in_b and in_c)
    assert _holds(conditions.some(a, b, c), row) == (in_a or in_b or in_c)
    assert _holds(conditions.negated(a), row) == (not in_a)
    assert _holds(conditions.either(a, b, c), row) == (in_b if in_a else in_c)


@given(TREES, ROWS)
def test_negations_are_pushed_to_the_atoms(a: Any, row: dict[str, int]) -> None:
    assert "not" not in _written(conditions.negated(a))
    assert conditions.negated(conditions.negated(a)) == a


@given(TREES, ROWS)
def test_what_is_left_where_a_column_is_unset(a: Any, row: dict[str, int]) -> None:
    left = conditions.when_unset(a, {"a"})
    assert "a ==" not in _written(left)
    assert _holds(left, row) == _holds(a, {**row, "a": 0})


@pytest.mark.parametrize(
    ("column", "op", "value", "expected"),
    [
        (TEXT, "$eq", "cat", 'text == "cat"'),
        (TEXT, "$eq", "", 'text_set == true and text == ""'),
        (TEXT, "$ne", "cat", 'text != "cat"'),
        (TEXT, "$ne", "", 'text_set == false or text != ""'),
        (TEXT, "$lt", "cat", 'text < "cat"'),
        (TEXT, "$gt", 3, "text_set == true"),
        (TEXT, "$lt", True, "True"),
        (TEXT, "$gt", None, "text_set == true"),
        (TEXT, "$lte", None, "text_set == false"),
        (NUMBER, "$lt", 2.5, "number <= 2"),
        (NUMBER, "$gte", 2.5, "number >= 3"),
        (NUMBER, "$gte", -2.5, "number_set == true and number >= -2"),
        (NUMBER, "$lt", -2, "number_set == false or number < -2"),
        (NUMBER, "$eq", 3.0, "number == 3"),
        (NUMBER, "$eq", 3.5, "False"),
        (NUMBER, "$ne", 3.5, "True"),
        (NUMBER, "$lt", 1e30, "True"),
        (NUMBER, "$gt", -math.inf, "number_set == true"),
        (NUMBER, "$gt", "a", "False"),
        (SCORE, "$eq", 3, "score == 3.0"),
        (SCORE, "$eq", math.inf, f"score > {1.7976931348623157e308!r}"),
        (SCORE, "$eq", math.nan, f"score < {-1.7976931348623157e308!r}"),
        (SCORE, "$lt", math.nan, "score_set == false"),
        (FLAG, "$eq", True, "flag == true"),
        (FLAG, "$eq", False, "flag_set == true and flag == false"),
        (FLAG, "$lt", True, "flag == false"),
        (FLAG, "$gte", False, "flag_set == true"),
        (DAY, "$lt", date(1970, 1, 2), "day < 86400000"),
        (DAY, "$eq", datetime(1969, 12, 31, tzinfo=timezone.utc), "day == -86400000"),
    ],
)
def test_comparisons_of_aggregations(column: Column, op: str, value: Any, expected: str) -> None:
    assert _written(predicates.compared(column, op, value)) == expected


@pytest.mark.parametrize(
    ("column", "op", "value", "expected"),
    [
        (TEXT, "$eq", None, "text_set == false"),
        (TEXT, "$ne", None, "text_set == true"),
        (TEXT, "$lt", "cat", 'text_set == true and text < "cat"'),
        (TEXT, "$gt", 3, "False"),
        (NUMBER, "$lte", 3, "number_set == true and number <= 3"),
        (NUMBER, "$eq", True, "False"),
        (SCORE, "$gte", 1, "score >= 1.0"),
    ],
)
def test_comparisons_of_queries(column: Column, op: str, value: Any, expected: str) -> None:
    assert _written(predicates.queried(column, op, value)) == expected


@pytest.mark.parametrize(
    ("column", "op", "value"),
    [
        (TEXT, "$eq", None),
        (TEXT, "$lt", None),
        (TEXT, "$eq", "\x00"),
        (TEXT, "$eq", "\ud800"),
        (TEXT, "$eq", b"bytes"),
        (TEXT, "$eq", {"a": 1}),
        (NUMBER, "$eq", -(2**63)),
        (SCORE, "$eq", 2**53 + 1),
        (TAGS, "$eq", ["a"]),
    ],
)
def test_what_is_not_compared(column: Column, op: str, value: Any) -> None:
    with pytest.raises(Untranslatable):
        predicates.compared(column, op, value)


@given(st.text())
def test_strings_are_read_back(text: str) -> None:
    try:
        literal = predicates.quoted(text)
    except Untranslatable:
        assert any(character < " " for character in text)
    else:
        assert json.loads(literal) == text
        assert "\\u" not in literal.replace("\\\\", "")


@given(st.text(), st.text())
def test_a_prefix_is_a_range(start: str, text: str) -> None:
    after = predicates._successor(start)
    for candidate in (text, start + text, start):
        low, key = start.encode(), candidate.encode()
        within = low <= key and (after is None or key < after.encode())
        assert within == candidate.startswith(start)


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_prefixes_are_read_from_regular_expressions(starts: list[str]) -> None:
    several = F("text").starts_with(starts).to_mongo()["$regexMatch"]["regex"]
    assert aggregation._prefixes(several) == starts
    one = F("text").starts_with(starts[0]).to_mongo()["$regexMatch"]["regex"]
    assert aggregation._prefixes(one) == starts[:1]


@pytest.mark.parametrize(
    "regex", ["cat", "^c.t", "^cat$", "^cat|dog", "^[c]", "^(c(a)t)", "^\\d", 3]
)
def test_other_regular_expressions_are_no_prefix(regex: Any) -> None:
    assert aggregation._prefixes(regex) is None


def _document() -> Document:
    known = {column.path: Scalar(column) for column in (TEXT, NUMBER, SCORE, FLAG, DAY)}
    return Document({**known, "tags": Strings(TAGS)}, None)


@pytest.mark.parametrize(
    "stages",
    [
        [{"$limit": 5}],
        [{"$group": {"_id": "$text"}}],
        [{"$match": {"text": {"$regex": "c"}}}],
        [{"$match": {"$where": "true"}}],
        [{"$match": {"text": {"$in": "cat"}}}],
        [{"$match": {"_id": ObjectId()}}],
        [{"$match": {"tags": {"$size": 1}}}],
        [{"$match": {"tags": ["a", "b"]}}],
        [{"$match": {"$expr": {"$eq": ["$text", "$number"]}}}],
        [{"$match": {"$expr": {"$eq": ["$$ROOT", 1]}}}],
        [{"$match": {"$expr": {"$gt": [{"$add": ["$number", 1]}, 1]}}}],
        [{"$addFields": {"number": 3}}, {"$match": {"number": 3}}],
        [{"$project": {"number": {"$add": [1, 2]}}}],
        [{"$project": {"text": True}}, {"$match": {"number": 3}}],
    ],
)
def test_pipelines_that_do_not_translate(stages: list[dict[str, Any]]) -> None:
    with pytest.raises(Untranslatable):
        pipeline.rows(stages, _document())


def test_one_operand_may_decide() -> None:
    unknown = {"$gt": ["$other", 1]}
    for op, decided in (("$or", True), ("$and", False)):
        assert aggregation.condition({op: [unknown, decided]}, _document()) == Constant(decided)
        with pytest.raises(Untranslatable):
            aggregation.condition({op: [unknown, not decided]}, _document())
