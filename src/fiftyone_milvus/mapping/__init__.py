"""Maps: two-dimensional pictures of an index, kept as FiftyOne's own visualizations."""

from __future__ import annotations

from fiftyone_milvus.mapping.anchors import LEAST, Anchors, check_umap, lay_out
from fiftyone_milvus.mapping.pca import Basis, fit, fit_all
from fiftyone_milvus.mapping.rows import Rows, join, placed
from fiftyone_milvus.mapping.runs import METHODS, StoredMap, load, maps_of, rename, save

__all__ = [
    "LEAST",
    "METHODS",
    "Anchors",
    "Basis",
    "Rows",
    "StoredMap",
    "check_umap",
    "fit",
    "fit_all",
    "join",
    "lay_out",
    "load",
    "maps_of",
    "placed",
    "rename",
    "save",
]
