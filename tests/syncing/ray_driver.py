"""Syncs an index on a Ray cluster in a process of its own.

``DATASET KEY ENGINE RAY FOLDER [WORKERS [HOLD_AT]]``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(
    dataset: str,
    key: str,
    kwargs: str,
    ray: str,
    folder: str,
    workers: str = "2",
    hold_at: str = "64",
) -> None:
    import fiftyone as fo

    import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)
    from tests.syncing.remote_model import Noted

    index = fo.load_dataset(dataset).load_brain_results(key, **json.loads(kwargs))
    model = Noted(Path(folder), hold_at=int(hold_at))
    report = index.sync(model=model, ray=ray, workers=int(workers))
    print("done", report.added, report.lost_workers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
