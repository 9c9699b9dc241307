"""The indexes of this engine: codes, made in the background.

Milvus Lite would build a graph or lists of each segment, while it answers nothing, and keep them in
memory with another copy of the vectors. It does so for the index types that are named here while a
collection is small: there they are fast, and take little.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from milvus_lite.index.brute_force import BruteForceIndex

from fiftyone_milvus.embedded.storage import codes, flush, own_types, rabitq, sidecars
from fiftyone_milvus.embedded.storage.codes import Codes
from fiftyone_milvus.embedded.storage.rabitq import Rabitq
from fiftyone_milvus.embedded.storage.segments import MappedSegment

logger = logging.getLogger(__name__)

NAME = "AUTOINDEX"

COPIED = ("HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8")
"""Index types that Milvus Lite keeps in memory with a copy of the vectors."""

COPIED_BYTES = 256 << 20
"""From so many bytes of vectors in a collection on, codes take the place of these copies."""


class AutomaticIndex(BruteForceIndex):
    """What is attached to a segment; Milvus Lite's own code compares all rows.

    Attributes:
        codes: the codes; None while there are none, and where they don't pay
        is_ready: whether codes are made, or not needed
    """

    index_type = NAME
    suffix = codes.SUFFIX

    def __init__(self, segment: MappedSegment, spec: Any) -> None:
        field = spec.field_name
        vectors = segment.mapped(field)
        super().__init__(
            segment.vector_data(field)[0] if vectors is None else vectors, spec.metric_type
        )
        self.codes: Codes | None = None
        self.is_ready = not self.pays(*self._vectors.shape)
        self._seqs = segment.seqs
        self._verify = functools.partial(segment.verify, field)

    @staticmethod
    def pays(rows: int, dimension: int) -> bool:
        """Whether a segment of this size has codes."""
        return codes.pay(rows, dimension)

    def search(self, *args: Any, **kwargs: Any) -> Any:
        """Milvus Lite's own search."""
        self._verify()
        return super().search(*args, **kwargs)

    def load(self, file: Path) -> None:
        """Reads the codes, if the file has them."""
        self.is_ready, self.codes = codes.load(file, self.metric, self._seqs)

    def make(self, file: Path, is_needed: Callable[[], bool]) -> None:
        """Makes the codes, and saves them; see :func:`.codes.build`."""
        self._verify()
        self.codes = codes.build(self._vectors, self.metric, is_needed)
        codes.save(self.codes, file, self._seqs)


class RabitqIndex(AutomaticIndex):
    """The same for ``IVF_RABITQ``.

    Attributes:
        rabitq: the codes; None while there are none, and where they don't pay
        refine: whether more rows than are asked for are compared exactly
    """

    index_type = own_types.IVF_RABITQ
    suffix = rabitq.SUFFIX

    def __init__(self, segment: MappedSegment, spec: Any) -> None:
        super().__init__(segment, spec)
        self.rabitq: Rabitq | None = None
        self.refine = str(spec.build_params.get("refine")).lower() == "true"
        self._lists = int(spec.build_params.get("nlist", own_types.LISTS))

    @staticmethod
    def pays(rows: int, dimension: int) -> bool:
        """Whether a segment of this size has codes."""
        return rows >= rabitq.MIN_ROWS

    def load(self, file: Path) -> None:
        """Reads the codes, if the file has them."""
        self.rabitq = rabitq.load(file, self._seqs, self.metric, self._lists)
        self.is_ready = self.rabitq is not None

    def make(self, file: Path, is_needed: Callable[[], bool]) -> None:
        """Makes the codes, and saves them; see :func:`.rabitq.build`."""
        self._verify()
        made = rabitq.build(self._vectors, self.metric, self._lists, is_needed)
        rabitq.save(made, file, self._seqs, self.metric, self._lists)
        self.rabitq = made


class AutomaticIndexes:
    """A part of a collection: codes are loaded, or made in the background."""

    def load(self: Any) -> None:
        """Loads the collection; the codes of several segments at once."""
        with self._maintenance_lock, ThreadPoolExecutor(os.cpu_count()) as pool:
            if self.load_state != "loaded":
                list(pool.map(lambda of: self._build_or_load_segment_index(*of), self._own()))
            super().load()  # type: ignore[misc]
        flush.release_memory()

    def _own(self: Any) -> list[tuple[MappedSegment, Any]]:
        """The segments that have indexes of this engine, each with what specifies one."""
        return [
            (seg, spec)
            for spec in self._index_specs.values()
            if self._kind_of_index(spec) is not None and spec.index_type not in COPIED
            for seg in self._segments_snapshot()
            if isinstance(seg, MappedSegment) and seg.num_rows
        ]

    def _build_or_load_segment_index(self: Any, seg: Any, spec: Any) -> None:
        kind = self._kind_of_index(spec)
        if kind is None or not isinstance(seg, MappedSegment):
            super()._build_or_load_segment_index(seg, spec)  # type: ignore[misc]
            return
        if spec.field_name not in seg.indexes:
            self._attach_automatic_index(seg, spec, kind)
        if spec.index_type not in COPIED:
            return
        # The copies from when the collection was small
        for other in self._segments_snapshot():
            index = other.indexes.get(spec.field_name)
            if isinstance(other, MappedSegment) and not isinstance(
                index, (AutomaticIndex, type(None))
            ):
                self._attach_automatic_index(other, spec, kind)

    def _kind_of_index(self: Any, spec: Any) -> type[AutomaticIndex] | None:
        """Returns the class of an index; None where Milvus Lite's own is used."""
        name = own_types.of(spec)
        if name == own_types.IVF_RABITQ:
            return RabitqIndex
        return AutomaticIndex if name == NAME or self._is_large(spec) else None

    def _is_large(self: Any, spec: Any) -> bool:
        if spec.index_type not in COPIED:
            return False
        dimension = next(f.dim for f in self._schema.fields if f.name == spec.field_name)
        rows = sum(seg.num_rows for seg in self._segments_snapshot())
        return bool(4 * rows * dimension >= COPIED_BYTES)

    def _attach_automatic_index(
        self: Any, seg: MappedSegment, spec: Any, kind: type[AutomaticIndex]
    ) -> None:
        field = spec.field_name
        index = kind(seg, spec)
        file = sidecars.path(self._index_dir(seg.partition), seg.file_path, field, kind.suffix)
        if not index.is_ready:
            index.load(file)
        seg.attach_index(index, field_name=field)
        if not index.is_ready and not self._bg_closed:
            self._bg_executor.submit(self._make_codes, seg, field, index, file)

    def _make_codes(self: Any, seg: Any, field: str, index: AutomaticIndex, file: Path) -> None:
        def is_needed() -> bool:
            return seg.indexes.get(field) is index and not self._bg_closed

        if not is_needed() or not any(seg is known for known in self._segments_snapshot()):
            return
        try:
            index.make(file, is_needed)
        except codes.StoppedError:
            return
        except Exception:
            logger.exception("no codes for '%s': it is scanned", seg.file_path)
        index.is_ready = True

    def _cleanup_orphan_index_files(self: Any) -> None:
        super()._cleanup_orphan_index_files()  # type: ignore[misc]
        asked = {
            spec.field_name: kind.suffix
            for spec in self._index_specs.values()
            if (kind := self._kind_of_index(spec)) is not None
        }
        for partition, files in self._manifest.get_all_data_files().items():
            stems = {Path(name).stem for name in files}
            for file in _sidecars(Path(self._index_dir(partition))):
                stem, _, field = file.stem.partition(".")
                if stem not in stems or asked.get(field) != file.suffix:
                    file.unlink(missing_ok=True)


def _sidecars(folder: Path) -> Iterator[Path]:
    return (
        file for kind in (AutomaticIndex, RabitqIndex) for file in folder.glob(f"*{kind.suffix}")
    )
