"""One Milvus collection: its layout, its life, and what it is asked.

The layout is that of FiftyOne's built-in backend, so collections are interchangeable: ``pk`` (the
sample ID, or the label ID of a patch), ``vector``, and ``sample_id``. Collections of others serve
too if they have a VARCHAR primary key and a float vector.
"""

from __future__ import annotations

from fiftyone_milvus.collection.creation import MAX_ID_BYTES, Creating
from fiftyone_milvus.collection.index_build import EXACT, INDEXED_FROM, Building
from fiftyone_milvus.collection.writes import Writes

__all__ = ["EXACT", "INDEXED_FROM", "MAX_ID_BYTES", "MilvusCollection"]


class MilvusCollection(Creating, Writes, Building):
    """A collection that may or may not exist yet.

    Args:
        connection: where it is
        name: its name
        consistency_level: ``"Strong"``, ``"Session"``, ``"Bounded"`` or ``"Eventually"``
        timeout: seconds that one call may take, or None for no limit
        id_field: the primary key, or None to find it
        vector_field: the vector field, or None to find it
        replicas: on how many query nodes it is loaded, or None for Milvus' default
    """
