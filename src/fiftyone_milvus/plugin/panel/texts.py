"""The panel's texts, most of them Markdown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fiftyone_milvus.inventory import CollectionInfo, IndexInfo, MilvusStatus
from fiftyone_milvus.measuring.recall import Evaluation, at_least
from fiftyone_milvus.plugin.jobs import Job

UNKNOWN = "–"

_OWNERS = {"index": "in use", "orphan": "orphaned", "other": "other"}


def status(found: MilvusStatus) -> str:
    """Returns where Milvus is and whether it answers."""
    if found.error is not None:
        return f"**Milvus does not answer.** {found.error}"
    latency = UNKNOWN if found.latency is None else f"{found.latency * 1e3:.1f} ms"
    return f"**{found.title}** answers in {latency} at `{found.address}`"


def index_card(info: IndexInfo) -> dict[str, Any]:
    """Returns what the card of an index shows."""
    return {
        "brain_key": info.brain_key,
        "of": info.patches_field or "samples",
        "vectors": number(info.vectors),
        "status": index_status(info),
        "metric": info.metric,
        "index_type": info.index_type or UNKNOWN,
        "built": None if info.built is None else f"{info.built:.0%}",
        "size": size(info.bytes),
        "usable": bool(info.vectors),
    }


def card_title(card: Mapping[str, Any]) -> str:
    """Returns the first line of the card of an index."""
    what = "vectors of samples" if card["of"] == "samples" else f"vectors of `{card['of']}`"
    return f"**{card['brain_key']}** — {card['vectors']} {what}, {card['status']}"


def card_facts(card: Mapping[str, Any]) -> str:
    """Returns the second line of the card of an index."""
    facts = [card["metric"], card["index_type"], card["size"]]
    if card["built"] is not None:
        facts.append(f"{card['built']} built")
    return " · ".join(facts)


def index_status(info: IndexInfo) -> str:
    """Returns whether an index is up to date with its dataset."""
    if info.error is not None:
        return "no answer"
    if info.exists is False:
        return "empty"
    return info.difference


def collections(found: Sequence[CollectionInfo]) -> str:
    """Returns collections with what uses them, one in each line."""
    return "\n".join(
        f"- `{one.name}`: {number(one.vectors)} vectors, {_OWNERS[one.owner]}: {one.why}"
        for one in found
    )


def orphans(found: Sequence[CollectionInfo]) -> str:
    """Returns one line about orphaned collections."""
    vectors = sum(one.vectors or 0 for one in found)
    count = len(found)
    return (
        f"{count:,} orphaned collection{'s' * (count > 1)} with {vectors:,} vectors: "
        f"{found[0].why}{f', and {count - 1:,} more' if count > 1 else ''}"
    )


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
    """Returns the parameters of an index, one in each line."""
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
    return "\n".join(f"- {name}: {value}" for name, value in rows.items() if value)


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
