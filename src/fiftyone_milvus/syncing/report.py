"""What a sync did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fiftyone_milvus.fields.store import FieldsReport


@dataclass(frozen=True)
class SyncReport:
    """What :meth:`sync() <fiftyone_milvus.index.MilvusSimilarityIndex.sync>` did.

    Counts are of vectors: of samples, or of patches.

    Attributes:
        added: that were missing, and are in the index now
        updated: that were embedded again, as their media may have changed
        removed: whose sample or label is gone
        unchanged: that were in the index already, and were left alone
        kept: of no sample or label of the dataset, in a collection that is not recorded as this
            index's own and might be another's
        failed: the ID of each sample, or patch, without a vector, and the reason
        fields: what :meth:`sync_fields` did, or None if there was nothing to do for it
        comparing: the seconds until it was known what is missing
        seconds: the seconds in all
    """

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    kept: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    fields: FieldsReport | None = None
    comparing: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Vectors that were written per second, after the comparison."""
        written = self.added + self.updated
        return written / max(self.seconds - self.comparing, 1e-9) if written else 0.0

    def __str__(self) -> str:
        parts = [f"{self.added} added", f"{self.removed} removed", f"{self.unchanged} unchanged"]
        if self.updated:
            parts.insert(1, f"{self.updated} embedded again")
        if self.kept:
            parts.append(f"{self.kept} of others left alone")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.fields is not None and self.fields.updated:
            parts.append(f"fields of {self.fields.updated} updated")
        rate = f" ({self.rate:.0f} vectors/s)" if self.rate else ""
        return f"{', '.join(parts)} in {self.seconds:.1f} s{rate}"
