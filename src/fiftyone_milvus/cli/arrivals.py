"""The command that compares new images with a dataset: check-new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments, output, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName
from fiftyone_milvus.cli.output import Json, print_json, print_table
from fiftyone_milvus.cli.registry import SEARCH, command


@command(SEARCH, "check-new quickstart similar inbox/1.jpg inbox/2.jpg --thresh 0.02")
def check_new(
    dataset: DatasetName,
    brain_key: BrainKey,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Files that the index's model embeds."),
    ],
    thresh: Annotated[
        float, typer.Option(help="The distance within which an image is nearly the same.")
    ],
    view: ViewName = None,
    as_json: Json = False,
) -> None:
    """Say what new images are nearly the same as, before they are added.

    Exits with 1 if one of them is nearly the same as a sample.
    """
    index = arguments.index(dataset, brain_key, view)
    found = {str(image): index.check_new(str(image), thresh) for image in images}
    paths = results.paths_of(index, [_id for arrival in found.values() for _id in arrival.ids])
    if as_json:
        rows = [
            {
                "image": image,
                "is_new": arrival.is_new,
                "near": [
                    {"id": _id, "distance": float(distance), "path": paths.get(_id)}
                    for _id, distance in zip(arrival.ids, arrival.distances)
                ],
                "groups": arrival.groups,
            }
            for image, arrival in found.items()
        ]
        print_json({"thresh": thresh, "images": rows})
    else:
        cells = [
            (image, len(arrival.ids), *closest)
            for image, arrival in found.items()
            for closest in [
                (None, None, None)
                if arrival.is_new
                else (float(arrival.distances[0]), arrival.ids[0], paths.get(arrival.ids[0]))
            ]
        ]
        print_table(("image", "nearly the same", "distance", "id of the closest", "path"), cells)
        count = sum(arrival.is_new for arrival in found.values())
        output.echo(f"{count:,} of {len(found):,} images are new, with nothing within {thresh:.4g}")
    if not all(arrival.is_new for arrival in found.values()):
        raise typer.Exit(1)
