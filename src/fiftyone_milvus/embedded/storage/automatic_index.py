"""The index type ``AUTOINDEX`` of this engine: codes, made in the background.

Milvus Lite would build a graph of each segment, while it answers nothing, and keep it in memory
with another copy of the vectors.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
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

    def __init__(self, segment: MappedSegment, field: str, metric: str) -> None:
        vectors = segment.mapped(field)
        super().__init__(segment.vector_data(field)[0] if vectors is None else vectors, metric)
        self.codes: Codes | None = None
        self.is_ready = not codes.pay(*self._vectors.shape)
        self._verify = functools.partial(segment.verify, field)

    def search(self, *args: Any, **kwargs: Any) -> Any:
        """Milvus Lite's own search."""
        self._verify()
        return super().search(*args, **kwargs)

    def make_codes(self, is_needed: Callable[[], bool]) -> Codes | None:
        """See :func:`.codes.build`."""
        self._verify()
        return codes.build(self._vectors, self.metric, is_needed)


class AutomaticIndexes:
    """A part of a collection: codes are loaded, or made in the background."""

    def _build_or_load_segment_index(self: Any, seg: Any, spec: Any) -> None:
        if spec.index_type != NAME or not isinstance(seg, MappedSegment):
            super()._build_or_load_segment_index(seg, spec)  # type: ignore[misc]
            return
        if spec.field_name in seg.indexes:
            return
        index = AutomaticIndex(seg, spec.field_name, spec.metric_type)
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
            index.codes = index.make_codes(is_needed)
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
