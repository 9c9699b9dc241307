"""The index type ``AUTOINDEX`` of this engine: codes, made in the background.

Milvus Lite would build a graph of each segment, while it answers nothing, and keep it in memory
with another copy of the vectors.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from milvus_lite.index.brute_force import BruteForceIndex

from fiftyone_milvus.embedded.storage import codes
from fiftyone_milvus.embedded.storage.codes import Codes
from fiftyone_milvus.embedded.storage.segments import MappedSegment

logger = logging.getLogger(__name__)

NAME = "AUTOINDEX"


class AutomaticIndex(BruteForceIndex):
    """What is attached to a segment; Milvus Lite's own code compares all rows.

    Attributes:
        codes: the codes; None while there are none, and where they don't pay
        is_ready: whether codes are made, or not needed
    """

    index_type = NAME

    def __init__(self, vectors: Any, metric: str) -> None:
        super().__init__(vectors, metric)
        self.codes: Codes | None = None
        self.is_ready = not codes.pay(*vectors.shape)


class AutomaticIndexes:
    """A part of a collection: codes are loaded, or made in the background."""

    def _build_or_load_segment_index(self: Any, seg: Any, spec: Any) -> None:
        if spec.index_type != NAME or not isinstance(seg, MappedSegment):
            super()._build_or_load_segment_index(seg, spec)  # type: ignore[misc]
            return
        if spec.field_name in seg.indexes:
            return
        vectors, _ = seg.vector_data(spec.field_name)
        index = AutomaticIndex(vectors, spec.metric_type)
        if not index.is_ready:
            file = codes.path(self._index_dir(seg.partition), seg.file_path, spec.field_name)
            index.is_ready, index.codes = codes.load(file, spec.metric_type, seg.seqs)
        seg.attach_index(index, field_name=spec.field_name)
        if not index.is_ready and not self._bg_closed:
            self._bg_executor.submit(self._make_codes, seg, spec.field_name, index, file)

    def _make_codes(self: Any, seg: Any, field: str, index: AutomaticIndex, file: Path) -> None:
        def is_needed() -> bool:
            return seg.indexes.get(field) is index and not self._bg_closed

        if not is_needed() or not any(seg is known for known in self._segments_snapshot()):
            return
        try:
            index.codes = codes.build(index._vectors, index.metric, is_needed)
            codes.save(index.codes, file, seg.seqs)
        except codes.StoppedError:
            return
        except Exception:
            logger.exception("no codes for '%s': it is scanned", seg.file_path)
        index.is_ready = True

    def _cleanup_orphan_index_files(self: Any) -> None:
        super()._cleanup_orphan_index_files()  # type: ignore[misc]
        for partition, files in self._manifest.get_all_data_files().items():
            stems = {Path(name).stem for name in files}
            for file in Path(self._index_dir(partition)).glob(f"*{codes.SUFFIX}"):
                if file.name.partition(".")[0] not in stems:
                    file.unlink(missing_ok=True)
