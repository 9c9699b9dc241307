"""Keep an index up to date while a dataset grows, changes and shrinks."""

from __future__ import annotations

import fiftyone.brain as fob

import fiftyone_milvus  # noqa: F401
from digits import make_dataset

dataset, embeddings = make_dataset(500)
ids = dataset.values("id")

# Create an empty index, then add embeddings in batches
index = fob.compute_similarity(
    dataset, embeddings=False, metric="euclidean", brain_key="similar", backend="milvus"
)
for start in range(0, 400, 100):
    index.add_to_index(embeddings[start : start + 100], ids[start : start + 100])
print("added:", index.total_index_size)

# Add the same IDs again: the vectors are replaced, or kept, but never stored twice
index.add_to_index(2 * embeddings[:50], ids[:50])
index.add_to_index(3 * embeddings[:50], ids[:50], overwrite=False)
print("added again:", index.total_index_size)
stored, _, _ = index.get_embeddings(sample_ids=ids[:1])
print("replaced:", bool((stored[0] == 2 * embeddings[0]).all()))

# Find and add the samples that are missing in the index
missing = dataset.exclude(index.sample_ids.tolist())
print("missing:", len(missing))
index.add_to_index(embeddings[400:], missing.values("id"))

index.remove_from_index(sample_ids=ids[:10])
print("removed:", index.total_index_size)

index.cleanup()
dataset.delete()
