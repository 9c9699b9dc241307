"""The command that says how unique or representative samples are: rate."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments, output, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName
from fiftyone_milvus.cli.output import Json, show_rows
from fiftyone_milvus.cli.registry import SEARCH, command
from fiftyone_milvus.cli.results import Open, Port, Save, Tag


class What(str, Enum):
    """What samples are rated by."""

    uniqueness = "uniqueness"
    representativeness = "representativeness"


@command(
    SEARCH,
    "rate quickstart similar uniqueness --save uniqueness",
    "rate quickstart similar representativeness --lowest -n 100 --tag outlier",
)
def rate(
    dataset: DatasetName,
    brain_key: BrainKey,
    what: Annotated[What, typer.Argument(help="What they are rated by.")],
    n: Annotated[int, typer.Option("-n", min=0, help="How many to list.")] = 10,
    lowest: Annotated[
        bool, typer.Option("--lowest", help="List those with the smallest numbers.")
    ] = False,
    clusters: Annotated[
        int, typer.Option(min=1, help="The number of clusters, for representativeness.")
    ] = 20,
    save: Save = None,
    tag: Tag = None,
    view: ViewName = None,
    open_app: Open = False,
    port: Port = 5151,
    as_json: Json = False,
) -> None:
    """Say how unique or representative each sample, or patch, is, from 0 to 1."""
    index = arguments.index(dataset, brain_key, view)
    with output.unlogged("index.ratings"):
        if what is What.uniqueness:
            found = index.compute_uniqueness()
        else:
            found = index.compute_representativeness(clusters=clusters)
    if save is not None:
        found.save(save)
    step = -1 if lowest else 1
    ids, values = found.ids[::step][:n], found.values[::step][:n].tolist()
    text = f"{found}{results.tag(index, ids, tag)}"
    paths = results.paths_of(index, ids)
    rows = [{"id": i, "path": paths.get(i), what.value: v} for i, v in zip(ids, values)]
    facts = {"rated": len(found), "no_embedding": found.no_embedding, "stale": found.stale}
    show_rows(what.value, rows, text, as_json, **facts, field=save, tag=tag)
    if open_app and rows:
        results.open_app(found.view(n, lowest=lowest), port)
