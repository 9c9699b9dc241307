"""How good an index is, and how it gets better: evaluate, tune, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName
from fiftyone_milvus.cli.output import Json, print_json

PANEL = "Recall"

_K = Annotated[int, typer.Option("-k", min=1, help="How many neighbors to look for.")]
_Queries = Annotated[int, typer.Option(min=1, help="How many vectors to search for.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        rich_help_panel=PANEL, epilog="Example: fiftyone-milvus evaluate quickstart similar -k 25"
    )(evaluate)
    app.command(
        rich_help_panel=PANEL,
        epilog="Example: fiftyone-milvus tune quickstart similar --recall 0.98",
    )(tune)
    app.command(
        rich_help_panel=PANEL,
        epilog="Examples:\n\n  fiftyone-milvus compare quickstart similar --recall 0.95\n\n"
        "  fiftyone-milvus compare quickstart similar --type HNSW --type IVF_SQ8 --plot types.png",
    )(compare)


def evaluate(
    dataset: DatasetName,
    brain_key: BrainKey,
    k: _K = 10,
    queries: _Queries = 1000,
    as_json: Json = False,
) -> None:
    """Measure the recall and the latency of an index against exact search."""
    found = arguments.index(dataset, brain_key).evaluate(queries=queries, k=k)
    print_json(found) if as_json else typer.echo(found)


def tune(
    dataset: DatasetName,
    brain_key: BrainKey,
    recall: Annotated[float, typer.Option(help="The recall to reach, at most 1.")] = 0.99,
    k: _K = 10,
    queries: _Queries = 1000,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Use what was found from now on.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find the cheapest search parameters that reach a recall, and store them with the index.

    Exits with 1 if none do.
    """
    found = arguments.index(dataset, brain_key).tune(recall, k, queries=queries, store=store)
    print_json(found) if as_json else typer.echo(found)
    if not found.reached:
        raise typer.Exit(1)


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
        int | None, typer.Option(min=2, help="Of so many vectors.", show_default="all")
    ] = None,
    recall: Annotated[
        float | None, typer.Option(help="Tune each to this recall first.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw them into this file.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Build index types side by side on the vectors of an index, and measure each.

    They are temporary; the index stays as it is.
    """
    index = arguments.index(dataset, brain_key)
    found = index.compare(types, k, queries=queries, sample=sample, recall=recall)
    print_json(found) if as_json else typer.echo(found)
    if plot is not None:
        found.plot(plot)
