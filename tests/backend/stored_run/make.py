"""Makes what ``test_stored_run`` restores: a dataset with two indexes, as a release stored it.

Run it with the Python of an environment where that release is installed, from this checkout::

    python -m tests.backend.stored_run.make
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.environment import isolate
from tests.support.mongo import Mongo

HERE = Path(__file__).parent
DATABASE, ARCHIVE = HERE / "database.bson", HERE / "milvus.tar.gz"
NAME = "stored-by-a-release"
COUNT, DIM = 40, 8


def make(path: Path) -> None:
    """Makes the dataset and its indexes, on the embedded engine at ``path``."""
    import fiftyone as fo
    import fiftyone.brain as fob
    import numpy as np

    import fiftyone_milvus

    rng = np.random.default_rng(7)

    def vector() -> np.ndarray:
        return rng.normal(size=DIM).astype(np.float32)

    dataset = fo.Dataset(NAME, persistent=True)
    samples = []
    for i in range(COUNT):
        patches = [
            fo.Detection(
                label="ab"[j % 2], bounding_box=[0.3 * j, 0.1, 0.2, 0.3], embedding=vector()
            )
            for j in range(i % 3)
        ]
        samples.append(
            fo.Sample(
                filepath=f"image-{i}.jpg",
                number=i,
                split=("train", "test")[i % 4 == 0],
                embedding=vector(),
                ground_truth=fo.Detections(detections=patches),
            )
        )
    dataset.add_samples(samples)
    fob.compute_similarity(
        dataset,
        backend="milvus",
        brain_key="images",
        embeddings="embedding",
        metric="cosine",
        fields=["number", "split"],
        uri=str(path),
    )
    patches = fob.compute_similarity(
        dataset,
        backend="milvus",
        brain_key="patches",
        patches_field="ground_truth",
        embeddings=False,
        metric="euclidean",
        uri=str(path),
    )
    labels = [
        (sample.id, detection.id, detection.embedding)
        for sample in dataset
        for detection in sample.ground_truth.detections
    ]
    sample_ids, label_ids, embeddings = zip(*labels)
    patches.add_to_index(np.stack(embeddings), sample_ids, label_ids=label_ids)
    patches.save()
    fiftyone_milvus.embedded.stop(path)


def dump(database: str) -> bytes:
    """Returns the documents of the dataset and its runs, with what GridFS holds of them."""
    import bson
    import pymongo

    found = pymongo.MongoClient(database)
    (name,) = (n for n in found.list_database_names() if n.startswith("fiftyone"))
    kept = {"datasets", "runs", "fs.files", "fs.chunks"}
    documents = {
        collection: list(found[name][collection].find())
        for collection in found[name].list_collection_names()
        if collection in kept or collection.startswith("samples.")
    }
    return bson.encode(documents)


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="fom-"))
    mongo = Mongo(root / "mongo")
    nowhere = isolate(root, mongo.uri)
    try:
        path = root / "stored.db"
        make(path)
        DATABASE.write_bytes(dump(mongo.uri))
        for service in path.glob("service*"):
            service.unlink()
        shutil.make_archive(str(ARCHIVE).removesuffix(".tar.gz"), "gztar", path)
    finally:
        mongo.stop()
        nowhere.close()
        shutil.rmtree(root, ignore_errors=True)
    for file in (DATABASE, ARCHIVE):
        print(f"{file}: {file.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
