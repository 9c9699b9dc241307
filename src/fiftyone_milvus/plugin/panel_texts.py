"""The panel's texts: rows of its tables, and Markdown."""

from __future__ import annotations

import time
from typing import Any

from fiftyone_milvus.inventory import CollectionInfo, IndexInfo, MilvusStatus
from fiftyone_milvus.measuring.recall import Evaluation, at_least
from fiftyone_milvus.plugin.jobs import Job

UNKNOWN = "–"

INDEX_COLUMNS = {
    "brain_key": "Index", "of": "Contents", "vectors": "Vectors", "status": "Status",
    "metric": "Metric", "index_type": "Index type", "built": "Built", "size": "Size",
}  # fmt: skip
COLLECTION_COLUMNS = {"name": "Collection", "vectors": "Vectors", "owner": "Owner", "why": "Why"}
_OWNERS = {"index": "in use", "orphan": "orphaned", "other": "other"}


def status(found: MilvusStatus) -> str:
    """Returns where Milvus is and whether it answers."""
    if found.error is not None:
        return f"**Milvus does not answer.** {found.error}"
    latency = UNKNOWN if found.latency is None else f"{found.latency * 1e3:.1f} ms"
    return f"**{found.title}** answers in {latency} at `{found.address}`"


def index_row(info: IndexInfo) -> dict[str, str]:
    """Returns the row of an index, by :data:`INDEX_COLUMNS`."""
    return {
        "brain_key": info.brain_key,
        "of": info.patches_field or "samples",
        "vectors": number(info.vectors),
        "status": index_status(info),
        "metric": info.metric,
        "index_type": info.index_type or UNKNOWN,
        "built": UNKNOWN if info.built is None else f"{info.built:.0%}",
        "size": size(info.bytes),
    }


def index_status(info: IndexInfo) -> str:
    """Returns whether an index is up to date with its dataset."""
    if info.error is not None:
        return "no answer"
    if info.exists is False:
        return "empty"
    return info.difference


def collection_row(info: CollectionInfo) -> dict[str, str]:
    """Returns the row of a collection, by :data:`COLLECTION_COLUMNS`."""
    return {
        "name": info.name,
        "vectors": number(info.vectors),
        "owner": _OWNERS[info.owner],
        "why": info.why,
    }


def orphans(count: int) -> str:
    """Returns the label of the button that cleans up."""
    return f"Clean up {count:,} orphaned collection{'s' * (count > 1)}"


def jobs(running: list[Job]) -> str:
    """Returns the running jobs, one in each line."""
    lines = []
    for job in running:
        done = "" if job.progress is None else f" {job.progress:.0%}"
        what = f" **{job.key}**" if job.key else ""
        lines.append(
            f"- {job.title}{what}:{done} {job.label} (for {time.time() - job.started:.0f} s)"
        )
    return "\n".join(lines)


def details(info: IndexInfo) -> str:
    """Returns the parameters of an index, as a table."""
    parameters = ", ".join(f"{name} {value}" for name, value in info.index_params.items())
    rows: dict[str, Any] = {
        "Model": info.model,
        "Embeddings field": info.embeddings_field,
        "Dimensions": number(info.dimension),
        "Index": " ".join(filter(None, (info.index_type, parameters))),
        "Metadata fields": ", ".join(info.fields),
        "Consistency level": info.consistency_level,
        "Collection": info.collection and f"`{info.collection}`",
        "Address": info.address and f"`{info.address}`",
        "Problem": info.error,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def recall(found: Evaluation) -> str:
    """Returns the result of an evaluation."""
    return (
        f"**recall@{found.k} {found.recall:.4f}**, {at_least(found.bound)}, "
        f"{found.p50 * 1e3:.1f} ms per search (95 % within {found.p95 * 1e3:.1f} ms), "
        f"from {found.queries:,} queries"
    )


def number(value: int | None) -> str:
    """Returns a number with thousands separators."""
    return UNKNOWN if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Returns bytes as kB, MB or GB."""
    if value is None:
        return UNKNOWN
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value / 1e3:.1f} kB"
