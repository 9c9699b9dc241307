"""Index a dataset and search it by image and by vector."""

from __future__ import annotations

import fiftyone.brain as fob

import fiftyone_milvus  # noqa: F401  backend="milvus" is this package from here on
from digits import make_dataset

dataset, embeddings = make_dataset()

# With model="clip-vit-base32-torch" instead of embeddings, you can also search by text
index = fob.compute_similarity(
    dataset,
    embeddings=embeddings,
    metric="cosine",
    brain_key="similar",
    backend="milvus",
)
print(f"{index.total_index_size} vectors, {index.config.deployment} engine")

query = dataset.first()
view = dataset.sort_by_similarity(query.id, k=8, brain_key="similar", dist_field="distance")
print(f"Nearest to a {query.ground_truth.label}:")
for sample in view:
    print(f"  {sample.ground_truth.label}  {sample.distance:.4f}")

seven = embeddings[dataset.values("ground_truth.label").index("7")]
view = dataset.sort_by_similarity(seven, k=8, brain_key="similar")
print("Nearest to the vector of a 7:", *view.values("ground_truth.label"))

# To see them in the App: session = fo.launch_app(view)

index.cleanup()
dataset.delete()
