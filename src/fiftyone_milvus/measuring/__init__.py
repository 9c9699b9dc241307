"""Recall, latency and memory of an index: measured, tuned, and compared between index types."""
