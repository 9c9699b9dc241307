"""Find near-duplicates, and the most unique samples."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np

import fiftyone_milvus  # noqa: F401
from digits import make_dataset

dataset, embeddings = make_dataset()

# Add copies of twenty samples. Their embeddings differ by a little noise
originals = dataset.limit(20)
dataset.add_samples(
    [fo.Sample(filepath=s.filepath, ground_truth=s.ground_truth.copy()) for s in originals]
)
noise = np.random.default_rng(51).normal(scale=0.1, size=(20, embeddings.shape[1]))
embeddings = np.concatenate([embeddings, embeddings[:20] + noise])

index = fob.compute_similarity(
    dataset, embeddings=embeddings, metric="euclidean", brain_key="similar", backend="milvus"
)

index.find_duplicates(thresh=2.0)
print(f"{len(index.duplicate_ids)} near-duplicates of {len(dataset)} samples")
view = index.duplicates_view(type_field="dup_type")
print("View:", view.count_values("dup_type"))

index.find_unique(30)
print("The 30 most unique:", index.unique_view().count_values("ground_truth.label"))

index.cleanup()
dataset.delete()
