"""Random faults of clients and the embedded engine; ``make chaos`` runs them for longer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.embedded.support import service_pids
from tests.faults.chaos import ON_EMBEDDED, ROWS, SECONDS, SEED, Chaos
from tests.faults.ledger import GONE, vector


@pytest.mark.timeout(SECONDS + 240)
def test_chaos(make, embedded, monkeypatch):
    # So that it flushes and merges files all the time
    monkeypatch.setenv("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", "20000")
    world = make(embedded, ROWS + 1)
    path = Path(embedded["uri"])
    with Chaos(world, SEED, lambda: service_pids(path)) as chaos:
        chaos.run(SECONDS, ON_EMBEDDED)
        chaos.kill_engine()
        chaos.check()
        assert chaos.counts["acknowledged"] > 20
        would_be_seen(chaos)


def would_be_seen(chaos: Chaos) -> None:
    """So the test can fail."""
    row, versions = next(
        (row, versions)
        for ledger in chaos.ledgers()
        for row, versions in ledger.possible.items()
        if GONE not in versions
    )
    _id = [chaos.world.dataset.values("id")[row]]
    chaos.world.index.add_to_index(vector(row, max(versions) + 1)[np.newaxis], _id)
    with pytest.raises(AssertionError, match=f"row {row} is not as acknowledged"):
        chaos.check()
    chaos.world.index.remove_from_index(sample_ids=_id)
    with pytest.raises(AssertionError, match=f"row {row} is lost"):
        chaos.check()
