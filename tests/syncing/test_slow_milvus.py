"""sync() into a Milvus that takes less than the model makes: what is held stays the same."""

from __future__ import annotations

import time
from collections.abc import Iterator

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.syncing import batch_size
from tests.faults.wire import Wire
from tests.support.flight import counted
from tests.support.indexes import KEY, add_samples, unique
from tests.support.servers import MilvusServer
from tests.syncing.shades import Wide

PART = 256
LIMIT = 1.5e6
ROWS = (3_000, 12_000)


@pytest.fixture
def wire(milvus_server: MilvusServer) -> Iterator[Wire]:
    wire = Wire(milvus_server.port, limit=LIMIT)
    yield wire
    wire.cut()


@pytest.mark.parametrize("workers", [None, 2])
def test_what_is_on_the_way_does_not_grow(
    files: list[str], wire: Wire, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    # Smaller parts than those of a user, so that few vectors fill everything that is bounded
    monkeypatch.setattr(batch_size, "_MOST", PART)
    # In this process: four requests, the part that follows them, and up to three that are looked up
    # and read. Each worker has a part, and one more waits for it; one more is planned
    bound = 8 * PART if workers is None else (4 + 1 + 2 * workers + 1) * PART
    for rows in ROWS if workers is None else ROWS[-1:]:
        dataset = fo.Dataset(unique("slow"))
        add_samples(dataset, [{"filepath": files[i % len(files)]} for i in range(rows)])
        index = fob.compute_similarity(
            dataset, embeddings=False, brain_key=KEY, backend="milvus", uri=wire.uri,
            index_type="FLAT", metric="euclidean",
        )  # fmt: skip
        start = time.monotonic()
        with counted() as flight:
            assert index.sync(model=Wide(), batch_size=64, workers=workers).added == rows
        seconds = time.monotonic() - start
        vectors, ids, _ = index.get_embeddings()
        assert set(ids) == set(dataset.values("id"))
        reds = {_id: int(path[-7:-4]) * 3 for _id, path in zip(*dataset.values(["id", "filepath"]))}
        np.testing.assert_array_equal(vectors[:, 0], [reds[_id] for _id in ids])
        assert seconds > 4 * Wide.DIM * rows / LIMIT, "it was held up"
        assert flight.now == 0
        assert 4 * PART < flight.most <= bound < rows
        index.cleanup()
        dataset.delete()
