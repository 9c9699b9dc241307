"""Syncs an index in a process of its own.

Says on standard output how many rows were acknowledged, a line at a time, and how it ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def say(*words: object) -> None:
    print(*words, flush=True)


def main(dataset: str, kwargs: str, seconds: str) -> None:
    import fiftyone as fo

    import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)
    from tests.faults.model import KEY, Slow

    def progress(bar: Any) -> None:
        say("acknowledged", bar.iteration)

    index = fo.load_dataset(dataset).load_brain_results(KEY, **json.loads(kwargs))
    say("ready")
    sys.stdin.readline()
    report = index.sync(model=Slow(float(seconds)), batch_size=16, progress=progress)
    say("done", report.added, report.unchanged)
