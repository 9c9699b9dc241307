"""Use a Milvus server or Zilliz Cloud. Its address comes from the environment.

    FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI=http://localhost:19530 python server.py

So do ``..._USER``, ``..._PASSWORD``, ``..._TOKEN``, ``..._DB_NAME`` and ``..._CA_PEM_PATH``.
"""

from __future__ import annotations

import fiftyone.brain as fob

import fiftyone_milvus  # noqa: F401
from digits import make_dataset

dataset, embeddings = make_dataset()
index = fob.compute_similarity(
    dataset,
    embeddings=embeddings,
    metric="cosine",
    index_type="HNSW",
    index_params={"M": 16, "efConstruction": 200},
    search_params={"ef": 128},
    brain_key="similar",
    backend="milvus",
)
print(f"{index.config.deployment}, Milvus {index.client.get_server_version()}")

# The address is not stored: a process that loads the run later needs it in its environment again
stored = dataset.get_brain_info("similar").config.serialize()
print("Stored credentials:", sorted({"uri", "user", "password", "token"} & set(stored)))

view = dataset.sort_by_similarity(dataset.first().id, k=8, brain_key="similar")
print("Nearest to a 0:", *view.values("ground_truth.label"))

index.cleanup()
dataset.delete()
