"""What a process knows of a collection is never older than what it did to it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fiftyone_milvus.collection import consistency
from fiftyone_milvus.collection.consistency import SegmentState, Session


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(consistency, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_segments_are_asked_for_again_after_a_change_and_after_a_while(clock: list[float]) -> None:
    session, asked = Session(), []

    def ask() -> SegmentState:
        asked.append(clock[0])
        return SegmentState(len(asked), [])

    assert session.segments(ask).growing == session.segments(ask).growing == 1
    clock[0] += 1.9
    assert session.segments(ask).growing == 1
    clock[0] += 0.2
    assert session.segments(ask).growing == 2
    clock[0] += 0.1
    session.changed()
    clock[0] += 0.1
    assert session.segments(ask).growing == 3


def test_a_state_that_was_asked_for_during_a_write_is_not_kept(clock: list[float]) -> None:
    session = Session()

    def ask() -> SegmentState:
        clock[0] += 0.1
        session.changed()  # the write of another thread is done
        return SegmentState(1, [])

    assert session.segments(ask).growing == 1
    assert session.segments(lambda: SegmentState(2, [])).growing == 2


def test_reads_after_a_delete_are_strong(clock: list[float]) -> None:
    session = Session()
    assert session.read_level("Session") == "Session"
    session.changed()
    assert session.read_level("Session") == "Session"
    session.changed(deleted=True)
    clock[0] += 5
    assert session.read_level("Session") == "Strong"
    assert session.read_level("Bounded") == "Bounded"
    session.read("Session")
    assert session.read_level("Session") == "Strong"
    session.read("Strong")
    assert session.read_level("Session") == "Session"


def test_deleted_rows_count_until_they_are_sealed() -> None:
    session = Session()
    assert session.stored(9_000, 50) == 9_000
    session.changed(deleted=True, rows=8_000)
    assert session.stored(1_000, 50) == 9_000
    session.changed(deleted=True, rows=500)
    assert session.stored(1_000, 550) == 9_000, "500 were deleted from sealed segments"
    assert session.stored(1_000, 0) == 9_000, "a compaction removed them"
    assert session.stored(0, 0) == 0
    assert session.stored(10, 0) == 8_010, "a segment without a living row may still grow"
    session.sealed()
    assert session.stored(10, 0) == 8_010, "it is sealed, but still loaded"
    session.changed(deleted=True, rows=5)
    assert session.stored(10, 8_000) == 15
    assert session.stored(0, 8_000) == 0
    assert session.stored(10, 8_000) == 15


def test_rows_of_a_segment_that_was_sealed_are_forgotten() -> None:
    session = Session()
    session.changed(deleted=True, rows=8_000)
    session.sealed()
    session.changed(deleted=True, rows=5)
    assert session.stored(0, 0) == 0
    assert session.stored(10, 0) == 15


def test_a_dropped_collection_is_forgotten() -> None:
    key = ("address", None, "name")
    consistency.session(key).changed(deleted=True)
    consistency.forget(key)
    assert consistency.session(key).read_level("Session") == "Session"
