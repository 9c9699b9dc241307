"""Tests of other modules once more, on adopted runs: those that can differ on a collection that the
built-in backend made. What is decided before Milvus is asked is tested with our own only."""
