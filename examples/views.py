"""Search in views, with several queries, for the least similar, and without a limit."""

from __future__ import annotations

import fiftyone.brain as fob
from fiftyone import ViewField as F

import fiftyone_milvus  # noqa: F401
from digits import make_dataset

dataset, embeddings = make_dataset()
index = fob.compute_similarity(
    dataset, embeddings=embeddings, metric="cosine", brain_key="similar", backend="milvus"
)
label = "ground_truth.label"
query = dataset.first()  # a 0

# In a view you always get min(k, len(view)) results, and the right ones
not_zeros = dataset.match(F(label) != "0")
view = not_zeros.sort_by_similarity(query.id, k=10, brain_key="similar")
print("Like a 0, but none:", *view.values(label))

# With several queries: the nearest to their mean, or to any of them
queries = [dataset.match(F(label) == digit).first().id for digit in ("1", "8")]
for aggregation in ("mean", "post-min"):
    view = index.sort_by_similarity(queries, k=10, aggregation=aggregation)
    print(f"{aggregation} of a 1 and an 8:", *view.values(label))

view = index.sort_by_similarity(query.id, k=10, reverse=True)
print("Least like a 0:", *view.values(label))

print("All, sorted:", len(index.sort_by_similarity(query.id)))

index.cleanup()
dataset.delete()
