"""Numbers of numpy are as good as built-in ones, wherever a caller passes one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fiftyone_milvus import numbers
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.errors import InvalidInputError

INTEGERS = [3, np.int64(3), np.uint8(3), np.array(3)]
NOT_INTEGERS = [True, np.True_, 3.0, np.float32(3), "3", None, [3], np.array([3, 4]), 3j]


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_an_integer_becomes_an_int(value: Any) -> None:
    found = numbers.check_integer("count", value)
    assert found == 3
    assert type(found) is int
    assert type(numbers.as_number(value)) is int


@pytest.mark.parametrize("value", NOT_INTEGERS, ids=repr)
def test_what_is_no_integer_is_refused(value: Any) -> None:
    assert numbers.as_integer(value) is None
    with pytest.raises(InvalidInputError, match=r"Invalid count .*; expected an integer above 0"):
        numbers.check_integer("count", value)


def test_a_number_becomes_a_float_or_an_int() -> None:
    assert [type(numbers.as_number(v)) for v in (0.5, np.float32(0.5), np.int8(1))] == [
        float,
        float,
        int,
    ]
    assert [numbers.as_number(v) for v in (True, np.True_, "1", None, 1j)] == [None] * 5


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ({}, 0, "Invalid n 0; expected an integer above 0"),
        ({"low": 0}, -1, "Invalid n -1; expected an integer of at least 0"),
        ({"high": 16}, 17, "Invalid n 17; expected an integer from 1 to 16"),
        ({"hint": ", or None for all"}, 0.5, "Invalid n 0.5; expected an integer above 0, or None"),
    ],
)
def test_an_error_names_the_valid_values(bounds: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        numbers.check_integer("n", value, **bounds)
    assert str(caught.value).startswith(message)


def test_none_is_a_default_where_there_is_one() -> None:
    assert numbers.check_k(None) is None
    assert numbers.check_batch_size(None) is None
    for check in (numbers.check_k, numbers.check_batch_size):
        with pytest.raises(InvalidInputError, match="or None for"):
            check(0)


def test_distances_fractions_and_recalls() -> None:
    assert numbers.check_distance(np.float32("inf")) == float("inf")
    assert [numbers.check_fraction(v) for v in (0, np.float64(0.5), np.array(0.25), 1)] == [
        0.0,
        0.5,
        0.25,
        1.0,
    ]
    assert numbers.check_recall(np.float32(0.5)) == 0.5
    for check in (numbers.check_distance, numbers.check_fraction, numbers.check_recall):
        for value in (float("nan"), "near", "0.5", None, True, [0.5], 0.5j):
            with pytest.raises(InvalidInputError, match="Invalid "):
                check(value)
    for value in (-0.1, np.float64(1.5), float("inf")):
        with pytest.raises(InvalidInputError, match="Invalid fraction"):
            numbers.check_fraction(value)
    for value in (0, 1.1, True):
        with pytest.raises(InvalidInputError, match="Invalid recall"):
            numbers.check_recall(value)


def test_a_config_holds_built_in_numbers() -> None:
    config = MilvusSimilarityConfig(
        index_type="HNSW",
        index_params={"M": np.int64(16), "efConstruction": np.uint16(200)},
        search_params={"ef": np.int32(64), "k": np.int64(10)},
        num_shards=np.int64(2),
        replicas=np.int64(1),
        partition_key="split",
        num_partitions=np.int64(8),
        fields=["split"],
        timeout=np.float32(2),
    )
    values = [*config.index_params.values(), *config.search_params.values(), config.timeout]
    values += [config.num_shards, config.replicas, config.num_partitions]
    assert {type(value) for value in values} == {int, float}
