"""The parts of a sync that need no Milvus."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.syncing import SyncReport, difference
from fiftyone_milvus.syncing.batch_size import SECONDS, BatchSize
from fiftyone_milvus.syncing.embedding_errors import Announcements, Failures
from fiftyone_milvus.syncing.expected_rows import Expected

IDS = st.binary(min_size=12, max_size=12).map(lambda data: data.hex())
# Zeros at the end are what NumPy's strings hide
ZEROS = st.sampled_from(["0" * 24, "ab" + "0" * 22, "00" * 11 + "01"])
STRAYS = st.one_of(
    st.text(max_size=30), st.just("A" * 24), st.just("a" * 23), st.just(" " * 2 + "a" * 22)
)


@given(st.lists(st.one_of(IDS, ZEROS, STRAYS), max_size=20))
def test_ids_become_bytes_and_come_back(ids: list[str]) -> None:
    array, strays = object_ids.from_strings(ids)
    rest = [i for at, i in enumerate(ids) if at not in set(strays.tolist())]
    assert object_ids.to_strings(array) == rest
    assert rest == [i for i in ids if re.fullmatch("[0-9a-f]{24}", i)]
    assert object_ids.to_object_ids(array) == [ObjectId(i) for i in rest]
    assert object_ids.from_object_ids(map(ObjectId, rest)).tobytes() == array.tobytes()


class Pages:
    """The IDs of a collection, in pages."""

    def __init__(self, pages: list[list[str]]) -> None:
        self._pages = pages

    def id_pages(self, *, strong: bool, with_samples: bool) -> object:
        assert strong
        return iter([(page, page) for page in self._pages])


@given(
    st.lists(st.one_of(IDS, ZEROS), unique=True, max_size=30),
    st.data(),
)
def test_what_is_missing_and_what_is_too_much(ids: list[str], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    held = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    strays = ["odd", "F" * 24][: data.draw(st.integers(0, 2))]
    rows = data.draw(st.permutations(held + strays))
    cut = data.draw(st.integers(0, len(rows)))
    keys = object_ids.from_strings(asked)[0]
    found = difference.compare(Pages([rows[:cut], rows[cut:]]), Expected(keys, keys), patches=True)  # type: ignore[arg-type]
    assert found.present.tolist() == [i in held for i in asked]
    unexpected = found.unexpected
    assert sorted(object_ids.to_strings(unexpected.keys)) == sorted(set(held) - set(asked))
    assert unexpected.keys.tobytes() == unexpected.sample_ids.tobytes()
    assert sorted(unexpected.foreign) == sorted(strays)


def test_parts_grow_to_seconds_of_work_and_no_further() -> None:
    batch = BatchSize(batch_size=16)
    sizes = []
    for _ in range(12):
        sizes.append(batch.current)
        batch.record(batch.current, batch.current / 100, batch.current * 2048)
    assert sizes[0] <= 64
    assert sizes[-1] == 100 * SECONDS // 16 * 16
    assert all(size % 16 == 0 for size in sizes)
    # Vectors that need much memory
    batch.record(batch.current, 0.1, batch.current << 20)
    assert batch.current == 8 // 16 * 16 or batch.current <= 16
    # A model that became slow
    batch = BatchSize()
    batch.record(64, 640.0, 64)
    assert batch.current == 1


def test_fiftyones_log_tells_reasons() -> None:
    models = logging.getLogger("fiftyone.core.models")
    with Failures() as failures:
        models.warning("Sample: %s\nError: %s\n", "a" * 24, ValueError("two\nlines"))
        assert not failures.batches
        models.warning("Batch: %s - %s\nError: %s\n", "b" * 24, "c" * 24, OSError())
    assert failures.reasons == {"a" * 24: "ValueError: two lines", "b" * 24: "OSError"}
    assert failures.batches


def test_other_messages_pass_once(caplog: pytest.LogCaptureFixture) -> None:
    models = logging.getLogger("fiftyone.core.models")
    brain = logging.getLogger("fiftyone.brain.internal.core.utils")
    announcements = Announcements()
    for _ in range(2):
        with caplog.at_level(logging.INFO, logger="fiftyone"), Failures(), announcements:
            models.warning("Ignoring batch_size=%d", 5)
            brain.info("Computing embeddings...")
            brain.info("Something else")
    brain.info("Computing embeddings...")
    assert [r.getMessage() for r in caplog.records if r.name.startswith("fiftyone.")] == [
        "Ignoring batch_size=5",
        "Something else",
        "Computing embeddings...",
    ]


def test_reports_read_well() -> None:
    report = SyncReport(added=1000, unchanged=5, comparing=1.0, seconds=3.0)
    assert str(report) == "1000 added, 0 removed, 5 unchanged in 3.0 s (500 vectors/s)"
    assert report.rate == 500
    assert SyncReport(seconds=2).rate == 0
    failed = SyncReport(updated=2, kept=3, failed={"id": "why"}, seconds=1)
    assert str(failed) == (
        "0 added, 2 embedded again, 0 removed, 0 unchanged, 3 stale kept, 1 failed "
        "in 1.0 s (2 vectors/s)"
    )
    assert np.isfinite(failed.rate)
    others = SyncReport(shared=4, foreign=5, seconds=1)
    assert "4 of other datasets kept, 5 of other programs kept in" in str(others)
