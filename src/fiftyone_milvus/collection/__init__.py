"""One Milvus collection: its layout, its creation, and its rows.

The layout is that of FiftyOne's built-in backend, so either backend can use the collections of the
other: ``pk`` (the sample ID, or the label ID of a patch), ``vector``, and ``sample_id``. A foreign
collection can be used too if it has a VARCHAR primary key and a float vector.
"""

from __future__ import annotations

from fiftyone_milvus.collection.creation import MAX_ID_BYTES, CollectionSpec, Creation
from fiftyone_milvus.collection.index_build import EXACT, INDEXED_FROM, IndexBuild
from fiftyone_milvus.collection.writes import Writes

__all__ = ["EXACT", "INDEXED_FROM", "MAX_ID_BYTES", "CollectionSpec", "MilvusCollection"]


class MilvusCollection(Creation, Writes, IndexBuild):
    """A collection that may or may not exist yet.

    Args:
        connection: to the Milvus of the collection
        name: its name
        consistency_level: ``"Strong"``, ``"Session"``, ``"Bounded"`` or ``"Eventually"``
        timeout: seconds that one call may take, or None for no limit
        id_field: the primary key, or None to find it
        vector_field: the vector field, or None to find it
        replicas: the number of query nodes that load it, or None for Milvus' default
        check: raises an error if the collection, of some layout, is not that of the index
        index: returns metric type, index type and build parameters of the vector index for a
            dimension, to build it again if another program drops it
    """
