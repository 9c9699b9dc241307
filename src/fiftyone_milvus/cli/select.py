"""The command that selects samples: select."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fiftyone_milvus.cli import arguments, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName
from fiftyone_milvus.cli.output import Json, show_rows
from fiftyone_milvus.cli.registry import SEARCH, command
from fiftyone_milvus.cli.results import Open, Port, Tag


def _strength(name: str, help: str) -> Any:
    return typer.Option(f"--{name}", metavar="STRENGTH", min=0, help=help, show_default=False)


@command(
    SEARCH,
    "select quickstart similar 100 --tag to-label",
    "select quickstart similar 100 --diverse 1 --typical 0.5 --novel labeled",
    "select quickstart similar 100 --balanced ground_truth.label --balance 10",
)
def select(
    dataset: DatasetName,
    brain_key: BrainKey,
    n: Annotated[int, typer.Argument(min=1, help="How many to select.")],
    diverse: Annotated[
        float | None,
        _strength("diverse", "Select what differs; 1 where no other strategy is given."),
    ] = None,
    typical: Annotated[
        float | None, _strength("typical", "Select what has others close by.")
    ] = None,
    balanced: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Select as many of each value of a field.", show_default=False
        ),
    ] = None,
    balance: Annotated[float, typer.Option(min=0, help="The strength of --balanced.")] = 1.0,
    similar: Annotated[
        str | None,
        typer.Option(
            metavar="VIEW", help="Select what resembles a saved view.", show_default=False
        ),
    ] = None,
    similarity: Annotated[float, typer.Option(min=0, help="The strength of --similar.")] = 1.0,
    novel: Annotated[
        str | None,
        typer.Option(
            metavar="VIEW", help="Select what a saved view does not have.", show_default=False
        ),
    ] = None,
    novelty: Annotated[float, typer.Option(min=0, help="The strength of --novel.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    field: Annotated[
        str | None,
        typer.Option(help="A field for the rank of each that is selected.", show_default=False),
    ] = None,
    tag: Tag = None,
    view: ViewName = None,
    open_app: Open = False,
    port: Port = 5151,
    as_json: Json = False,
) -> None:
    """Select samples, or patches, by several strategies, for example to label, and say why."""
    index = arguments.index(dataset, brain_key, view)
    from fiftyone_milvus.selections import Balanced, Diverse, Novel, Similar, Strategy, Typical

    strategies: list[Strategy] = []
    if diverse is not None:
        strategies.append(Diverse(diverse))
    if typical is not None:
        strategies.append(Typical(typical))
    if balanced is not None:
        strategies.append(Balanced(balanced, balance))
    if similar is not None:
        strategies.append(Similar(arguments.samples(dataset, similar), similarity))
    if novel is not None:
        strategies.append(Novel(arguments.samples(dataset, novel), novelty))
    found = index.select(n, strategies or None, seed=seed, field=field)
    paths = results.paths_of(index, found.ids)
    rows = [
        {"id": _id, "path": paths.get(_id), "why": dict(why)}
        for _id, why in zip(found.ids, found.reasons)
    ]
    text = "".join(
        f"{path}: {', '.join(f'{name} {chosen:,}' for name, (chosen, _) in counts.items())}\n"
        for path, counts in found.counts.items()
    )
    text += f"{len(rows):,} of {found.candidates:,}, all within {found.radius:.4g} of one of them"
    text += results.tag(index, found.ids, tag)
    facts = {"of": found.candidates, "radius": found.radius, "counts": found.counts}
    if not as_json:
        rows = [
            {**row, "why": "; ".join(f"{n}: {w}" for n, w in row["why"].items())} for row in rows
        ]
    show_rows(
        "selected", rows, text, as_json, numbered=True, **facts, seed=seed, field=field, tag=tag
    )
    if open_app and rows:
        results.open_app(found.view(), port)
