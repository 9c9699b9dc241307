"""Whose ``backend="milvus"`` is, and whether FiftyOne has a MongoDB to start."""
