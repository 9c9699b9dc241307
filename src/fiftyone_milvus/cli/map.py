"""The command that draws a map: map."""

from __future__ import annotations

from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName
from fiftyone_milvus.cli.output import Json, show, unlogged
from fiftyone_milvus.cli.registry import SEARCH, command


@command(SEARCH, "map quickstart similar", "map quickstart similar --method umap --view night")
def map(
    dataset: DatasetName,
    brain_key: BrainKey,
    name: Annotated[
        str | None,
        typer.Option(help="The brain key of the map.", show_default="that of the index + _map"),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="pca, or umap if umap-learn is installed.", show_default="pca"),
    ] = None,
    view: ViewName = None,
    again: Annotated[
        bool, typer.Option("--again", help="Compute it again; else new samples are added to it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw an index as a map, for the Embeddings panel of the App.

    Run it again after `sync` to add new samples.
    """
    index = arguments.index(dataset, brain_key)
    samples = None if view is None else arguments.samples(dataset, view)
    with unlogged("index.map"):
        found = index.map(name, method, samples, update=not again)
    counts = {n: found.config.milvus_map[n] for n in ("points", "new", "removed", "missing")}
    lines = [
        f"Map '{found.key}': {counts['points']:,} points by {found.config.method}, "
        f"{counts['new']:,} new, {counts['removed']:,} removed",
        f"To see it, run `fiftyone app launch {dataset}`, and choose '{found.key}' in the "
        "Embeddings panel",
    ]
    if counts["missing"]:
        lines[1:1] = [
            f"{counts['missing']:,} have no embedding; run `fiftyone-milvus sync {dataset} "
            f"{brain_key}` first to draw them too"
        ]
    facts = {"brain_key": found.key, "method": found.config.method, **counts}
    show(facts, as_json, "\n".join(lines))
