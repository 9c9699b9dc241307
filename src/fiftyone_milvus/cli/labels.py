"""The command that predicts labels from neighbors, and finds those that are probably wrong."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from fiftyone_milvus.cli import arguments, output, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName
from fiftyone_milvus.cli.output import Json, print_json, print_table, show_rows
from fiftyone_milvus.cli.registry import SEARCH, command
from fiftyone_milvus.cli.results import Tag

_SHOWN = 20


@command(
    SEARCH,
    "label quickstart similar ground_truth --min-confidence 0.8",
    "label quickstart similar scene --prompt 'day=a sunny day' --prompt 'night=a dark night'",
    "label quickstart similar ground_truth --errors --tag doubtful",
)
def label(
    dataset: DatasetName,
    brain_key: BrainKey,
    field: Annotated[
        str,
        typer.Argument(help="The field with the labels; for patches, an attribute such as label."),
    ],
    errors: Annotated[
        bool,
        typer.Option("--errors", help="List labels that their neighbors contradict; fill nothing."),
    ] = False,
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="How many neighbors vote.", show_default="10")
    ] = None,
    weighted: Annotated[
        bool | None,
        typer.Option(
            "--weighted/--equal",
            help="Whether near neighbors count more.",
            show_default="weighted, except for dotproduct",
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            help="The field that is written; with --errors, nothing is written without it.",
            show_default="FIELD_predicted",
        ),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out labels that are less sure.")
    ] = 0.0,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=TEXT",
            help="Give each image the label whose text is nearest; repeatable. No labels needed.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    view: ViewName = None,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Predict the labels that are missing from those of the nearest neighbors.

    A label that is there is never overwritten. With `--errors`, lists the labels that their
    neighbors contradict, and exits with 1 if there are some.
    """
    if errors and (prompt or min_confidence or dry_run):
        raise typer.BadParameter("--errors takes no --prompt, --min-confidence or --dry-run")
    if dry_run and into is not None:
        raise typer.BadParameter("give --into or --dry-run, not both")
    index = arguments.index(dataset, brain_key, view)
    if errors:
        _errors(index, field, k, weighted, into, tag, as_json)
        return
    texts = None
    if prompt:
        pairs = [text.partition("=") for text in prompt]
        texts = {name: text or name for name, _, text in pairs}
    with output.unlogged("index.labels"):
        found = index.predict_labels(
            field,
            k,
            weighted,
            into=False if dry_run else into,
            min_confidence=min_confidence,
            prompts=texts,
        )
    text = f"{found}{results.tag(index, found.ids, tag)}"
    if as_json:
        rows = zip(found.ids, found.labels, found.confidences.tolist())
        names = "into", "written", "labeled", "unsure", "no_embedding", "accuracy"
        facts = {name: getattr(found, name) for name in names}
        print_json(
            {
                **facts,
                "labels": [{"id": i, "label": one, "confidence": c} for i, one, c in rows],
                "tag": tag,
            }
        )
        return
    if len(found):
        print_table(("label", "predicted"), Counter(found.labels).most_common(_SHOWN))
    if found.confusion is not None and (wrong := found.confusion.pairs()):
        title = "Held-out labels that would be predicted as others"
        print_table(("label", "predicted", "number"), wrong[:_SHOWN], title=title)
    output.echo(text)


def _errors(
    index: Any,
    field: str,
    k: int | None,
    weighted: bool | None,
    into: str | None,
    tag: str | None,
    as_json: bool,
) -> None:
    with output.unlogged("index.labels"):
        found = index.find_label_errors(field, k, weighted)
    if into is not None:
        found.save(into)
    doubtful = found.ids[: found.contradicted]
    text = f"{found}{results.tag(index, doubtful, tag)}"
    paths = results.paths_of(index, doubtful)
    columns = zip(doubtful, found.labels, found.suggested, found.scores.tolist())
    rows = [
        {"id": i, "label": has, "suggested": says, "score": score, "path": paths.get(i)}
        for i, has, says, score in columns
    ]
    facts = {"unlabeled": found.unlabeled, "no_embedding": found.no_embedding, "into": into}
    show_rows("errors", rows, text, as_json, compared=len(found), **facts, tag=tag)
    if rows:
        raise typer.Exit(1)
