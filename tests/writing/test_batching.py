"""Batches of any size become requests of one size, in order and without loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fiftyone_milvus.schema.layout import Layout
from fiftyone_milvus.writing.batching import FIELD_BYTES, Requests, to_rows
from fiftyone_milvus.writing.validation import Batch

DIM = 4


def batch(start: int, count: int, **fields: object) -> Batch:
    ids = [str(i) for i in range(start, start + count)]
    vectors = np.arange(start, start + count, dtype=np.float32)[:, None].repeat(DIM, axis=1)
    return Batch(ids, [f"s{i}" for i in ids], vectors, [dict(fields)] * count if fields else ())


def cut(batches: list[Batch], rows: int) -> list[list[str]]:
    buffer = Requests(rows)
    requests = [request for b in batches for request in buffer.add(b)]
    if rest := buffer.rest():
        requests.append(rest)
    return [[i for part in request for i in part.ids] for request in requests]


@pytest.mark.parametrize(
    "sizes", [[1] * 23, [23], [7, 16], [0, 10, 0, 13], [5, 5, 13], [10, 10, 3], [3, 20]]
)
def test_full_requests_whatever_comes_in(sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes])
    requests = cut([batch(int(s), n) for s, n in zip(starts, sizes, strict=False)], 10)
    assert [len(r) for r in requests] == [10, 10, 3]
    assert list(itertools.chain(*requests)) == [str(i) for i in range(23)]


def test_nothing_makes_no_request() -> None:
    assert cut([batch(0, 0)], 10) == []


def test_vectors_are_not_copied() -> None:
    whole = batch(0, 25)
    buffer = Requests(10)
    parts = [part for request in buffer.add(whole) for part in request] + buffer.rest()
    assert all(np.shares_memory(part.vectors, whole.vectors) for part in parts)


def test_long_values_make_shorter_requests() -> None:
    size = 60_000
    rows = cut([batch(0, 150, a="x" * size), batch(150, 150, a="x" * size), batch(300, 300)], 250)
    assert list(itertools.chain(*rows)) == [str(i) for i in range(600)]
    fit = FIELD_BYTES // (4 * size)
    assert [len(r) for r in rows[:4]] == [fit] * 4
    assert max(map(len, rows)) <= 250


def test_a_row_that_is_too_long_goes_alone() -> None:
    text = "x" * FIELD_BYTES
    assert cut([batch(0, 1), batch(1, 2, a=text), batch(3, 1)], 10) == [["0"], ["1"], ["2", "3"]]


def test_rows_hold_everything() -> None:
    layout = Layout("pk", "vector", "sample_id", DIM, "L2", "FLAT", (), {})
    rows = to_rows([batch(0, 2), batch(2, 1, split="train")], layout)
    assert [list(row.pop("vector")) for row in rows] == [[i] * DIM for i in range(3)]
    assert rows == [
        {"pk": "0", "sample_id": "s0"},
        {"pk": "1", "sample_id": "s1"},
        {"pk": "2", "sample_id": "s2", "split": "train"},
    ]
