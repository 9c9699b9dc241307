"""What the panel says, as rows and Markdown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.inventory import CollectionInfo, IndexInfo, MilvusStatus
from fiftyone_milvus.measuring.recall import Evaluation
from fiftyone_milvus.plugin.jobs import Job

UNKNOWN = "–"


def status(found: MilvusStatus) -> str:
    """Returns where Milvus is and whether it answers."""
    if found.error is not None:
        return f"**Milvus does not answer.** {found.error}"
    latency = UNKNOWN if found.latency is None else f"{found.latency * 1e3:.1f} ms"
    return f"**{found.engine} {found.version}** answers in {latency} at `{found.address}`"


def index_row(info: IndexInfo) -> dict[str, str]:
    """Returns the row of an index."""
    return {
        "brain_key": info.brain_key,
        "of": info.patches_field or "samples",
        "vectors": number(info.vectors),
        "in_step": in_step(info),
        "metric": info.metric,
        "index_type": info.index_type or UNKNOWN,
        "built": UNKNOWN if info.built is None else f"{info.built:.0%}",
        "size": size(info.bytes),
        "collection": info.collection or UNKNOWN,
    }


def in_step(info: IndexInfo) -> str:
    """Returns whether an index is in step with its dataset."""
    if info.error is not None:
        return "no answer"
    if info.exists is False:
        return "empty"
    if info.in_step is None:
        return "not compared"
    if info.in_step:
        return "in step"
    parts = [f"{info.missing:,} missing"] if info.missing else []
    parts += [f"{info.stale:,} stale"] if info.stale else []
    parts += ["fields stale"] if info.fields_stale else []
    return ", ".join(parts)


def collection_row(info: CollectionInfo) -> dict[str, str]:
    """Returns the row of a collection."""
    return {
        "name": info.name,
        "vectors": number(info.vectors),
        "dimension": number(info.dimension),
        "owner": {"index": "in use", "orphan": "orphan", "other": "not ours"}[info.owner],
        "why": info.why,
    }


def jobs(running: list[Job]) -> str:
    """Returns what is being done, a line each."""
    lines = []
    for job in running:
        done = "" if job.progress is None else f" {job.progress:.0%}"
        since = f"{time.time() - job.started:.0f} s"
        what = f" of **{job.key}**" if job.key else ""
        lines.append(f"- {job.title}{what}:{done} {job.label} (for {since})")
    return "\n".join(lines)


def details(info: IndexInfo) -> str:
    """Returns the parameters of an index, as a table."""
    parameters = ", ".join(f"{name} {value}" for name, value in info.index_params.items())
    rows: Mapping[str, Any] = {
        "Model": info.model,
        "Embeddings field": info.embeddings_field,
        "Dimensions": number(info.dimension),
        "Index": " ".join(filter(None, (info.index_type, parameters))),
        "Fields beside the vectors": ", ".join(info.fields),
        "Consistency level": info.consistency_level,
        "Collection": info.collection and f"`{info.collection}`",
        "At": info.address and f"`{info.address}`",
        "Problem": info.error,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def recall(found: Evaluation) -> str:
    """Returns what an evaluation found."""
    return (
        f"**recall@{found.k} {found.recall:.4f}**, {found.p50 * 1e3:.1f} ms a search "
        f"(95 % within {found.p95 * 1e3:.1f} ms), of {found.queries:,} queries"
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
