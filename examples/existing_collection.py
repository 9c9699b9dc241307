"""Search a foreign collection, which another program made and filled. Nothing is copied."""

from __future__ import annotations

import fiftyone.brain as fob
from pymilvus import DataType, MilvusClient

from digits import make_dataset
from fiftyone_milvus import embedded

dataset, embeddings = make_dataset()
ids = dataset.values("id")

# The other program. Names are free; the key is a VARCHAR that holds sample IDs
endpoint = embedded.ensure("pipeline.db")
client = MilvusClient(endpoint.address, token=endpoint.token)
if client.has_collection("scans"):
    client.drop_collection("scans")
schema = client.create_schema()
schema.add_field("scan", DataType.VARCHAR, max_length=64, is_primary=True)
schema.add_field("pixels", DataType.FLOAT_VECTOR, dim=embeddings.shape[1])
params = client.prepare_index_params()
params.add_index("pixels", index_type="FLAT", metric_type="COSINE")
client.create_collection("scans", schema=schema, index_params=params)
client.insert("scans", [{"scan": i, "pixels": e} for i, e in zip(ids, embeddings, strict=True)])

index = fob.compute_similarity(
    dataset,
    embeddings=False,  # they are in the collection
    metric="cosine",
    brain_key="similar",
    backend="milvus",
    uri="pipeline.db",
    collection_name="scans",
)
print(f"{index.total_index_size} vectors in '{index.config.collection_name}'")
view = dataset.sort_by_similarity(ids[3], k=8, brain_key="similar")
print("Nearest to a 3:", *view.values("ground_truth.label"))
