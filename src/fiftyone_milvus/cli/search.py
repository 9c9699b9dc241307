"""The command that searches: search."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fiftyone_milvus.cli import arguments, completion, output, results
from fiftyone_milvus.cli.arguments import ViewName
from fiftyone_milvus.cli.output import Json, print_json, print_table
from fiftyone_milvus.cli.registry import SEARCH, command
from fiftyone_milvus.cli.results import Open, Port, Tag
from fiftyone_milvus.errors import InvalidInputError


@command(
    SEARCH,
    'search quickstart similar --text "a cat" -k 5',
    "search quickstart similar --image cat.jpg --open",
    'search quickstart similar --text "a street" --like ID --unlike ID --diverse 0.3',
    "search --everywhere --image cat.jpg",
)
def search(
    dataset: Annotated[
        str | None,
        typer.Argument(help="The name of a dataset.", autocompletion=completion.datasets),
    ] = None,
    brain_key: Annotated[
        str | None,
        typer.Argument(help="The brain key of an index.", autocompletion=completion.brain_keys),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Search by a sample or label of the index; repeatable."),
    ] = None,
    negatives: Annotated[
        list[str] | None,
        typer.Option(
            "--negative",
            metavar="ID",
            help="A sample or label that the results should not resemble; repeatable.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Search by an image file.", exists=True, dir_okay=False)
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Search only by this part of --image, relative to it: 0.1,0.2,0.5,0.5.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Search by a text.")] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="An ID, an image file or a text that the results should resemble, besides the "
            "other parts of the query; repeatable.",
            show_default=False,
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="An ID, an image file or a text that they should not resemble; repeatable.",
            show_default=False,
        ),
    ] = None,
    diverse: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="How much the results should differ from each other, from 0 to 1."
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", min=1, help="The number of results.", show_default="10; all with --max-distance"
        ),
    ] = None,
    max_distance: Annotated[float | None, typer.Option(help="The largest distance.")] = None,
    filter: Annotated[
        str | None, typer.Option(help="A Milvus expression over the fields of the collection.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Find the least similar.")] = False,
    best_per_image: Annotated[
        bool,
        typer.Option("--best-per-image", help="Of an index of patches, one of each image."),
    ] = False,
    tag: Tag = None,
    view: ViewName = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Search the indexes of all datasets.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --everywhere: the model of the indexes.", autocompletion=completion.models
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="With --everywhere: the metric of the indexes.", autocompletion=completion.metrics
        ),
    ] = None,
    brain_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--brain-key", help="With --everywhere: a brain key of the indexes; repeatable."
        ),
    ] = None,
    open_app: Open = False,
    port: Port = 5151,
    as_json: Json = False,
) -> None:
    """Find the samples or patches that are most similar to a sample, an image or a text, or all.

    Several parts are put together: `--text "a street" --image here.jpg --unlike ID`.
    """
    single = sum(given is not None and given != [] for given in (ids, image, text))
    if not single and not like:
        raise typer.BadParameter("give one of --id, --image, --text and --like, or several")
    if region is not None and image is None:
        raise typer.BadParameter("--region is a part of --image; give --image")
    many = single > 1 or bool(like or unlike or region)
    if many and negatives:
        raise typer.BadParameter("--negative is for one query; use --unlike with several parts")
    if everywhere:
        given = (dataset, brain_key, max_distance, filter, view, tag)
        extra = many or diverse is not None or negatives
        if given != (None,) * 6 or reverse or open_app or best_per_image or extra:
            raise typer.BadParameter(
                "with --everywhere, give only a query, -k, --model, --metric and --brain-key"
            )
        query = _query_everywhere(ids, image, text)
        chosen = {"model": model, "metric": metric, "brain_keys": brain_keys or None}
        _everywhere(query, k or 10, chosen, as_json)
        return
    if dataset is None or brain_key is None:
        raise typer.BadParameter("give DATASET and BRAIN_KEY, or --everywhere")
    if model is not None or metric is not None or brain_keys:
        raise typer.BadParameter("--model, --metric and --brain-key need --everywhere")
    index = arguments.index(dataset, brain_key)
    samples = arguments.samples(dataset, view)
    if many:
        question = _question(ids, image, region, text, like, unlike)
    else:
        question = {"query": _query(index, ids, image, text), "negative": negatives or None}
    if view is not None:
        index.use_view(samples)
    found = index.search(
        k=10 if k is None and max_distance is None else k,
        max_distance=max_distance,
        filter=filter,
        reverse=reverse,
        group_by="sample_id" if best_per_image else None,
        diverse=diverse,
        **question,
    )
    results.tag(index, found.sample_ids if found.label_ids is None else found.label_ids, tag)
    from fiftyone_milvus.dataset.media_paths import paths

    files = paths(samples, found.sample_ids)
    names = ("distance", "sample_id", "label_id")
    rows = [
        {**{n: getattr(r, n) for n in names}, "filepath": files.get(r.sample_id)} for r in found
    ]
    if as_json:
        print_json(rows)
    elif not rows:
        output.echo("No results")
    else:
        columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        cells = [(i + 1, *(row[n] for n in columns)) for i, row in enumerate(rows)]
        print_table(("", *columns), cells)
        if tag is not None:
            output.echo(f"Tagged {len(rows):,} '{tag}'")
    if open_app:
        results.open_app(found.view(), port)


def _query_everywhere(ids: Sequence[str] | None, image: Path | None, text: str | None) -> Any:
    if ids and len(ids) > 1:
        raise typer.BadParameter("--everywhere takes one --id")
    if ids and not re.fullmatch("[0-9a-fA-F]{24}", ids[0]):
        # A search would take it for a text
        raise InvalidInputError(
            f"Invalid ID '{ids[0]}' of a sample or label; expected 24 hexadecimal digits"
        )
    return ids[0] if ids else image if image is not None else text


def _everywhere(query: Any, k: int, chosen: Mapping[str, Any], as_json: bool) -> None:
    arguments.fiftyone()
    import fiftyone_milvus

    found = fiftyone_milvus.search_everywhere(query, k, **chosen)
    if not found.searched and found.skipped:
        first = found.skipped[0]
        raise InvalidInputError(
            f"None of {len(found.skipped)} indexes could be searched, for example "
            f"'{first.brain_key}' of dataset '{first.dataset}': {first.reason}"
        )
    if as_json:
        print_json(found.to_dict())
    elif not len(found):
        output.echo("No results")
    else:
        cells = [
            (i + 1, r.distance, r.dataset, r.brain_key, r.sample_id, r.label_id)
            for i, r in enumerate(found)
        ]
        print_table(("", "distance", "dataset", "index", "sample", "label"), cells)


def _query(index: Any, ids: Sequence[str] | None, image: Path | None, text: str | None) -> Any:
    if image is None and ids:
        return list(ids)
    if image is None:
        from fiftyone_milvus.index.asked import Text

        return Text(text)  # --image is for paths
    from fiftyone_milvus.dataset import images

    images.check_model(index)
    return images.embed(index, images.read(image))


def _question(
    ids: Sequence[str] | None,
    image: Path | None,
    region: str | None,
    text: str | None,
    like: Sequence[str] | None,
    unlike: Sequence[str] | None,
) -> dict[str, Any]:
    """Returns the parts of a question, as ``index.search()`` takes them."""
    box = None
    if region is not None:
        try:
            box = [float(number) for number in region.split(",")]
        except ValueError:
            raise InvalidInputError(
                f"Invalid --region '{region}'; expected X,Y,W,H, such as 0.1,0.2,0.5,0.5"
            ) from None
    return {
        "query": list(ids) if ids else None,
        "image": image,
        "region": box,
        "text": text,
        "like": list(like) if like else None,
        "unlike": list(unlike) if unlike else None,
    }
