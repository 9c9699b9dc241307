"""The result of a sync."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fiftyone_milvus.fields.store import FieldsReport


@dataclass(frozen=True)
class SyncReport:
    """What :meth:`sync() <fiftyone_milvus.index.MilvusSimilarityIndex.sync>` did.

    Counts are of vectors: of samples, or of patches.

    Attributes:
        added: vectors that were missing, and are in the index now
        updated: vectors that were embedded again, as their sample or file may have changed
        removed: vectors whose sample or label was deleted
        unchanged: vectors that were in the index already
        kept: stale vectors that stay, as the collection is not recorded as this index's
        shared: vectors of samples of other datasets, whose brain runs use the collection too; they
            stay
        foreign: rows of other programs, whose keys are no IDs of FiftyOne; they stay
        failed: the ID of each sample, or patch, without a vector, and the reason
        fields: what :meth:`sync_fields` did, or None if it was not called
        lost_workers: processes that ended before they were told to; others embedded their vectors
        shard: the part ``(i, n)`` that was synced, which the counts are of; None for all
        comparing: the seconds until it was known what is missing
        seconds: the seconds in total
    """

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    kept: int = 0
    shared: int = 0
    foreign: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    fields: FieldsReport | None = None
    lost_workers: int = 0
    shard: tuple[int, int] | None = None
    comparing: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Vectors written per second, without the comparison."""
        written = self.added + self.updated
        return written / max(self.seconds - self.comparing, 1e-9) if written else 0.0

    def __str__(self) -> str:
        parts = [f"{self.added} added", f"{self.removed} removed", f"{self.unchanged} unchanged"]
        if self.updated:
            parts.insert(1, f"{self.updated} embedded again")
        if self.kept:
            parts.append(f"{self.kept} stale kept")
        if self.shared:
            parts.append(f"{self.shared} of other datasets kept")
        if self.foreign:
            parts.append(f"{self.foreign} of other programs kept")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.lost_workers:
            parts.append(f"{self.lost_workers} workers lost")
        if self.fields is not None and self.fields.updated:
            parts.append(f"metadata fields of {self.fields.updated} updated")
        rate = f" ({self.rate:.0f} vectors/s)" if self.rate else ""
        shard = f"shard {self.shard[0]}/{self.shard[1]}: " if self.shard else ""
        return f"{shard}{', '.join(parts)} in {self.seconds:.1f} s{rate}"
