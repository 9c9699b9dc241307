"""What this package says to its own service within requests of Milvus."""

from __future__ import annotations

FARTHEST = "fiftyone_milvus_farthest and "
"""In front of a filter: the farthest rows are asked for. Any other Milvus refuses the filter, as it
has no such field, and does not return the nearest."""
