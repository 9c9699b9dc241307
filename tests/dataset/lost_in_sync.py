"""Loses FiftyOne's database while a model embeds, and goes on when it is back. Not a test.

Prints what ``sync()`` said, how many vectors were there then, and whether all are right at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import fiftyone as fo

uri, pid, path, folder, reads = sys.argv[1:]
fo.config.database_uri = uri

import fiftyone.brain as fob  # noqa: E402
import fiftyone.core.models as fom  # noqa: E402
import numpy as np  # noqa: E402

from tests.faults.model import Slow, make_dataset, make_files, truth  # noqa: E402

COUNT = 120


class OfSamples(Slow, fom.SamplesMixin):
    """Is given samples, so they are read from the database while it embeds."""

    def __init__(self, **kwargs: Any) -> None:
        Slow.__init__(self, **kwargs)
        fom.SamplesMixin.__init__(self)


kind = OfSamples if reads == "samples" else Slow
dataset = make_dataset("lost", make_files(Path(folder)), COUNT)
index = fob.compute_similarity(
    dataset,
    model=Slow(),
    embeddings=False,
    brain_key="key",
    backend="milvus",
    metric="dotproduct",
    uri=path,
)
events = {70: lambda: os.kill(int(pid), signal.SIGKILL)}
try:
    said = str(index.sync(model=kind(events=events), batch_size=10, progress=False))
except Exception as error:
    said = f"{type(error).__name__}: {error}"
kept = index._collection.count()
print(json.dumps({"said": said, "kept": kept}), flush=True)

(Path(folder) / "lost").touch()
while not (Path(folder) / "back").exists():
    time.sleep(0.05)
report = index.sync(model=kind(), progress=False)
vectors, ids, _ = index.get_embeddings()
numbers = dict(zip(*dataset.values(["id", "number"])))
right = np.allclose(vectors, [truth(numbers[key]) for key in ids])
done = {"added": report.added, "right": bool(right), "ids": {*ids} == {*numbers}}
print(json.dumps(done), flush=True)
os._exit(0)
