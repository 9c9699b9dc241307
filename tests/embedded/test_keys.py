"""The primary keys of segments, compared with dictionaries."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest

from fiftyone_milvus.embedded.executor import live_rows
from fiftyone_milvus.embedded.executor.parts import Part
from fiftyone_milvus.embedded.storage import keys
from fiftyone_milvus.embedded.storage.keys import AnyKeys, Finder, ObjectIdKeys, ObjectIds

RNG = np.random.default_rng(0)
# Of one process, which differ in time and counter, and of any
IDS = [f"6a1f00{i % 7:02x}abcdef0123{i:06x}" for i in range(3000)]
IDS += [RNG.bytes(12).hex() for _ in range(2000)]


def column(values: list[object]) -> pa.ChunkedArray:
    half = len(values) // 2
    return pa.chunked_array([pa.array(values[:half]), pa.array(values)[half:]])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (IDS, ObjectIdKeys),
        ([*IDS, "short"], AnyKeys),
        ([*IDS, IDS[0]], AnyKeys),
        ([*IDS, IDS[0].upper()], AnyKeys),
        ([*IDS, "é" * 12], AnyKeys),
        (list(range(50)), AnyKeys),
        (["a", "b", "a"], AnyKeys),
    ],
)
def test_rows_of_keys(values, kind):
    found = keys.of_column(column(values))
    assert isinstance(found, kind)
    row = {key: number for number, key in enumerate(values)}
    asked = [*values[::3], "none", "0" * 24, "é" * 24, IDS[0].upper(), 7]
    assert found.rows(asked).tolist() == [row.get(key, -1) for key in asked]
    assert found.rows([]).tolist() == []
    assert found.tolist() == values
    assert found.at(np.array([2, 0])) == [values[2], values[0]]
    assert found.unique == (len(row) == len(values))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(IDS[:100]),
        json.dumps(IDS[:1]),
        json.dumps(IDS[:2]).replace(", ", ","),
        json.dumps([IDS[0], IDS[1].upper()]),
        json.dumps([IDS[0], IDS[1][:-1]]),
        json.dumps([IDS[0], "é" * 24], ensure_ascii=False),
        json.dumps([IDS[0], IDS[1][:-4] + '", "']),
        "[]",
        "",
    ],
)
def test_a_list_of_ids_is_read_as_it_is_written(text):
    found = ObjectIds.of_list(text)
    if found is None:
        assert text not in (json.dumps(IDS[:100]), json.dumps(IDS[:1]))
    else:
        assert list(found) == json.loads(text)
        assert found[0] == json.loads(text)[0]


def test_many_ids_in_many_segments():
    parts = [IDS[:2000], IDS[1500:3000], IDS[3000:], IDS[100:110]]
    segments = [keys.of_column(column(part)) for part in parts]
    starts = np.cumsum([0, *map(len, parts)])
    finder = Finder(segments, starts[:-1].tolist())
    asked = ObjectIds.of_list(json.dumps([*IDS[::2], "f" * 24, "0" * 24]))
    mask = np.zeros(starts[-1], dtype=bool)
    finder.mark(asked, mask)
    wanted = set(IDS[::2])
    assert mask.tolist() == [key in wanted for part in parts for key in part]


def test_equal_hashes_are_not_equal_keys(monkeypatch):
    monkeypatch.setattr(keys, "_hashes", lambda packed: packed[:, -1].astype(np.uint64))
    # Within a segment, keys with equal hashes are kept as any other
    assert isinstance(keys.of_column(column(IDS)), AnyKeys)
    parts = [IDS[:10], IDS[256:266]]
    one, other = (keys.of_column(column(part)) for part in parts)
    asked = ObjectIds.of_list(json.dumps(IDS[0:266:2]))
    mask = np.zeros(20, dtype=bool)
    Finder([one, other], [0, 10]).mark(asked, mask)
    assert mask.tolist() == [True, False] * 10
    assert one.rows(parts[1]).tolist() == [-1] * 10
    assert [rows.tolist() for rows in keys.shared(one, other)] == [[], []]


@pytest.mark.parametrize("first_new", [0, 2, 3])
def test_segments_with_keys_in_common(first_new):
    parts = [IDS[:500], IDS[500:900], IDS[450:600], ["a", "b", *IDS[:3]]]
    for some in (parts, parts[:3]):
        segments = [keys.of_column(column(part)) for part in some]
        found = set(keys.pairs(segments, first_new))
        for later in range(first_new, len(some)):
            for earlier in range(later):
                mine, theirs = keys.shared(segments[earlier], segments[later])
                both = {some[earlier][row] for row in mine.tolist()}
                assert both == set(some[earlier]) & set(some[later])
                assert [some[later][row] for row in theirs.tolist()] == [
                    some[earlier][row] for row in mine.tolist()
                ]
                assert not both or (earlier, later) in found


def test_keys_are_not_looked_up_among_those_of_another_time(monkeypatch):
    segment = keys.of_column(column(IDS[:3000]))
    asked = ObjectIds.of(["00000001" + "0" * 16, "f" * 24])
    assert segment.rows(asked).tolist() == [-1, -1]
    monkeypatch.setattr(ObjectIdKeys, "rows_of", None)
    assert segment.rows(asked[:1]).tolist() == [-1]
    assert segment.rows(list(asked[1:])).tolist() == [-1]


def test_the_keys_of_a_write_are_read_once_for_all_segments(monkeypatch):
    ids = [IDS[start : start + 1000] for start in range(0, 5000, 1000)]
    parts = [Part(keys.of_column(column(some)), np.arange(1000, dtype=np.uint64)) for some in ids]
    parts.append(Part(AnyKeys([*ids[0][:3], "short"]), np.arange(4, dtype=np.uint64)))
    read, plain = [], keys._unhex
    monkeypatch.setattr(keys, "_unhex", lambda text: read.append(text) or plain(text))
    dead = defaultdict(set)
    # Newer than the rows of the first, and of the last of them; older than that of the third
    live_rows._mark_older(parts, {IDS[2]: 5000, IDS[2010]: 7, IDS[4500]: 5000}, dead)
    assert {parts.index(part): rows for part, rows in dead.items() if rows} == {
        0: {2},
        4: {500},
        5: {2},
    }
    assert len(read) == 1


def test_segments_of_different_times_have_no_keys_in_common():
    of_time = [[f"{time:08x}{i:016x}" for i in range(50)] for time in (1, 2, 3)]
    segments = [keys.of_column(column(ids)) for ids in [*of_time, [*of_time[1][:3], "f" * 24]]]
    assert list(keys.pairs(segments[:3], 2)) == []
    # The last begins in the time of the second, and ends after the third
    assert list(keys.pairs(segments, 3)) == [(1, 3), (2, 3)]
    assert [len(rows) for rows in keys.shared(segments[1], segments[3])] == [3, 3]
