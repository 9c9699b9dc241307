"""Pictures of the results, from the JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SIZE = (9.5, 4.2)
_COLORS = {
    "ours, server": "#00a1ea",
    "ours with fields, server": "#7fd0f5",
    "ours, embedded": "#ff6d04",
    "ours with fields, embedded": "#ffb680",
    "built-in, server": "#555555",
    "built-in, embedded": "#8c8c8c",
    "sklearn": "#b5b5b5",
    "lancedb": "#d9d9d9",
    "sync, server": "#00a1ea",
    "sync, embedded": "#ff6d04",
    "built-in compute_similarity, server": "#555555",
}


def draw(document: Path) -> None:
    """Draws the pictures of ``images/`` beside a document, of those tables that it has."""
    known: dict[str, Any] = json.loads(document.with_suffix(".json").read_text())
    folder = document.parent / "images"
    if "views" in known:
        raw = known["views"]["raw"]
        series = {
            name: [1e3 * float(np.median(view[name]["seconds"])) for view in raw.values()]
            for name in next(iter(raw.values()))
        }
        _bars(folder / "views.png", list(raw), series, "sort_by_similarity, ms (median)", _COLORS)
    if "planning-server" in known:
        raw = known["planning-server"]["raw"]
        names = {"unfiltered": "bare, unfiltered", "filtered": "bare, the view's IDs"}
        names["milvus"] = "ours, Milvus' part"
        series = {
            label: [
                1e3 * float(np.median(view[name])) if view[name] else 0.0 for view in raw.values()
            ]
            for name, label in names.items()
        }
        colors = dict(zip(series, ("#b5b5b5", "#555555", "#00a1ea"), strict=True))
        _bars(folder / "planning.png", list(raw), series, "Milvus, ms (median)", colors)
    tables = [known[name] for name in known if name.startswith("syncing-memory-")]
    if tables:
        runs = {name: found for table in tables for name, found in table["raw"].items()}
        _memory(folder / "sync-memory.png", runs)


def _memory(path: Path, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    for name, runs in found.items():
        rows = [run["samples"] for run in runs]
        axes.plot(rows, [run["peak"] / 1e6 for run in runs], "o-", label=name, color=_COLORS[name])
    largest = max((run for runs in found.values() for run in runs), key=lambda r: r["samples"])
    vectors = [0, largest["vectors"] / 1e6]
    axes.plot([0, largest["samples"]], vectors, ":", color="#b5b5b5", label="the vectors")
    axes.axhline(600, linestyle="--", color="#d9d9d9", label="the goal")
    axes.set_xlim(0)
    axes.set_ylim(0, 2_500)
    axes.set_xlabel("samples")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("peak memory over baseline, MB")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _bars(
    path: Path,
    titles: Sequence[str],
    series: Mapping[str, Sequence[float]],
    label: str,
    colors: Mapping[str, str],
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    width = 0.85 / len(series)
    for i, (name, values) in enumerate(series.items()):
        places = np.arange(len(titles)) + (i - (len(series) - 1) / 2) * width
        axes.bar(places, values, width, label=name, color=colors.get(name))
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.set_xticks(range(len(titles)), [t.replace(" (", "\n(") for t in titles], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.18), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
