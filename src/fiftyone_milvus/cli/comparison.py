"""The command that compares a dataset with another one: compare-datasets."""

from __future__ import annotations

from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName
from fiftyone_milvus.cli.output import Json, show_rows
from fiftyone_milvus.cli.registry import SEARCH, command
from fiftyone_milvus.cli.results import Open, Port, Save, Tag


@command(
    SEARCH,
    "compare-datasets this-year similar last-year similar",
    "compare-datasets this-year similar last-year similar --save novelty -n 100 --tag new",
)
def compare_datasets(
    dataset: DatasetName,
    brain_key: BrainKey,
    reference: Annotated[str, typer.Argument(help="The dataset to compare with.")],
    reference_key: Annotated[str, typer.Argument(help="The brain key of its index.")],
    n: Annotated[int, typer.Option("-n", min=0, help="How many of the most novel to list.")] = 10,
    size: Annotated[
        int, typer.Option(min=2, help="How many to draw of each for the drift, at most.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    save: Save = None,
    tag: Tag = None,
    view: ViewName = None,
    open_app: Open = False,
    port: Port = 5151,
    as_json: Json = False,
) -> None:
    """Say how much a dataset differs from another one, and list what is new in it."""
    index = arguments.index(dataset, brain_key, view)
    other = arguments.index(reference, reference_key)
    found = index.compare_datasets(other, size=size, seed=seed)
    if save is not None:
        found.save(save)
    ids = found.ids[:n]
    text = f"{found}{results.tag(index, ids, tag)}"
    paths = results.paths_of(index, ids)
    rows = [
        {"distance": float(distance), "id": _id, "path": paths.get(_id), "nearest": nearest}
        for _id, distance, nearest in zip(ids, found.distances, found.reference_ids)
    ]
    facts = {name: getattr(found, name) for name in ("drift", "p_value", "drawn", "compared")}
    show_rows("novel", rows, text, as_json, **facts, field=save, tag=tag)
    if open_app and rows:
        results.open_app(found.view(n), port)
