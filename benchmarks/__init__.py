"""Speed and recall, side by side: this package, FiftyOne's built-in backend and bare pymilvus.

``python -m benchmarks`` starts a MongoDB, the embedded engine and a Milvus server of its own, runs
every case and writes the tables of ``docs/benchmarks.md``.
"""
