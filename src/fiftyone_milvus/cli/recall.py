"""The commands that measure recall: evaluate, tune, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName
from fiftyone_milvus.cli.output import Json, show
from fiftyone_milvus.cli.registry import RECALL, command

_K = Annotated[int, typer.Option("-k", min=1, help="The number of neighbors.")]
_Queries = Annotated[int, typer.Option(min=1, help="The number of vectors to search for.")]


@command(RECALL, "evaluate quickstart similar -k 25")
def evaluate(
    dataset: DatasetName,
    brain_key: BrainKey,
    k: _K = 10,
    queries: _Queries = 1000,
    as_json: Json = False,
) -> None:
    """Measure the recall and the latency of an index against exact search."""
    found = arguments.index(dataset, brain_key).evaluate(queries=queries, k=k)
    show(found, as_json)


@command(RECALL, "tune quickstart similar --recall 0.98")
def tune(
    dataset: DatasetName,
    brain_key: BrainKey,
    recall: Annotated[float, typer.Option(help="The recall to reach, at most 1.")] = 0.99,
    k: _K = 10,
    queries: _Queries = 1000,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Use these parameters from now on.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find the cheapest search parameters that reach a recall, and store them with the index.

    Exits with 1 if no parameters reach it.
    """
    found = arguments.index(dataset, brain_key).tune(recall, k, queries=queries, store=store)
    show(found, as_json)
    if not found.reached:
        raise typer.Exit(1)


@command(
    RECALL,
    "compare quickstart similar --recall 0.95",
    "compare quickstart similar --type HNSW --type IVF_SQ8 --plot types.png",
)
def compare(
    dataset: DatasetName,
    brain_key: BrainKey,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="An index type; repeatable.", show_default="all that fit"),
    ] = None,
    k: _K = 10,
    queries: _Queries = 200,
    sample: Annotated[
        int | None, typer.Option(min=2, help="Use only this many vectors.", show_default="all")
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="First tune each index type to this recall.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a plot into this file.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Build several index types on the vectors of an index, and measure each.

    They are temporary; the index is not changed.
    """
    index = arguments.index(dataset, brain_key)
    found = index.compare(types, k, queries=queries, sample=sample, recall=recall)
    show(found, as_json)
    if plot is not None:
        found.plot(plot)
