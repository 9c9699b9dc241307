"""Filters that would end a server, or keep an engine busy for minutes, reach none."""

from __future__ import annotations

import time

import pytest
from bson import ObjectId

from fiftyone_milvus.collection.filters import MAX_EXPRESSION_IDS, ids_in
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.search import user_filters
from tests.support.indexes import index_images, one_line

ZEROS = [
    *("0", "00", "0x0", "0b0", "0.0", ".0", "0e5", "-0", "+ 0", "- - 0", "((0))", "(-0.0)"),
    *("(1 - 1)", "(2 * (3 - 3))", "(0 + 0.0)", "0 ** 2", "(1 / 2)", "(7 % 7)", "1e-999"),
    "(4294967296 * 4294967296)",
]


@pytest.mark.parametrize("sign", ["/", "%", " /\n"])
def test_constant_divisions_by_zero_are_refused(sign):
    for zero in ZEROS:
        for text in (
            f"num {sign} {zero} == 1",
            f"1 == num {sign} {zero}",
            f"json['a / 1'] {sign}{zero} > 2 and other > 0",
            f's == "a / 1" or (num * 2 {sign} {zero}) > 0',
            f"num / 2 {sign} {zero} == 1",
        ):
            with pytest.raises(InvalidInputError, match="divides by zero") as error:
                user_filters.check(text)
            one_line(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "num / 2 == 1",
        "num / (1 + 1) == 0",
        "num % 10 == 0",
        "num / 0.5 > 1",
        "num / 10 == 0",
        "0 / num == 0",
        "num / (3 / 2) == 1",
        "num / 2 ** 0 == 1",
        "num * 0 == 0",
        "x in [0, 1]",
        "s == 'a / 0'",
        's == "a \\" % 0"',
        'tags like "% 0"',
        "num /",
        "not (a == 1)",
    ],
)
def test_other_filters_pass(text):
    assert user_filters.check(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" or ".join(f"num == {i}" for i in range(20_000)), "more than 1,000 operators"),
        ("not " * 2000 + "(num == 1)", "more than 1,000 operators"),
        ("num " + "+ 1 " * 2000 + "> 1", "more than 1,000 operators"),
        ("s == '" + "x" * 10_000_000 + "'", "10,000,007 characters, expected at most 1,000,000"),
        ("(" * 500 + "num == 1" + ")" * 500, "more than 50 nested parentheses"),
    ],
)
def test_what_is_sent_by_mistake_is_refused_at_once(text, said):
    start = time.process_time()
    with pytest.raises(InvalidInputError, match=said) as error:
        user_filters.check(text)
    assert time.process_time() - start < 1
    one_line(error.value)
    assert "in [...]" in str(error.value)
    assert len(str(error.value)) < 500


def test_many_values_pass():
    text = ids_in("pk", [str(ObjectId()) for _ in range(3 * MAX_EXPRESSION_IDS)])
    assert user_filters.check(text) == text
    text = f"num in {list(range(-5000, 5000))}"
    assert user_filters.check(text) == text
    text = " or ".join(f"(num == {i})" for i in range(500))
    assert user_filters.check(text) == text


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_a_search_refuses_them(engine, dropped):
    indexed = index_images(engine, 5, "cosine", fields=["number"])
    dropped.append(indexed)
    for bad, said in (
        ("number / 0 == 1", "divides by zero"),
        ("(" * 60, "nested"),
        (5, "as a string"),
    ):
        with pytest.raises(InvalidInputError, match=f"Invalid filter.*{said}"):
            indexed.index.search(indexed.ids[0], filter=bad)
    assert indexed.index.search(indexed.ids[0], k=2, filter="number / 1 >= 0").ids
