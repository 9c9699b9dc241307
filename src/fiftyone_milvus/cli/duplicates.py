"""The commands that compare samples with each other: duplicates, groups, leaks, unique."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from fiftyone_milvus.cli import arguments, output, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName, Yes
from fiftyone_milvus.cli.output import Json, print_json, show_rows
from fiftyone_milvus.cli.registry import SEARCH, command
from fiftyone_milvus.cli.results import Open, Port, Tag

_Thresh = Annotated[
    float | None, typer.Option(help="The distance within which samples are duplicates.")
]
_Fraction = Annotated[
    float | None, typer.Option(min=0, max=1, help="The share of duplicates to find.")
]
_Delete = Annotated[
    bool,
    typer.Option("--delete", help="Delete the duplicates from the dataset, after a question."),
]


class _Options(NamedTuple):
    """What is done with duplicates."""

    tag: str | None
    delete: bool
    yes: bool
    as_json: bool


@command(
    SEARCH,
    "duplicates quickstart similar --fraction 0.05",
    "duplicates quickstart similar --thresh 0.02 --tag duplicate",
)
def duplicates(
    dataset: DatasetName,
    brain_key: BrainKey,
    thresh: _Thresh = None,
    fraction: _Fraction = None,
    view: ViewName = None,
    tag: Tag = None,
    delete: _Delete = False,
    yes: Yes = False,
    open_app: Open = False,
    port: Port = 5151,
    as_json: Json = False,
) -> None:
    """Find near-duplicates, each with the original that is kept. `groups` shows them together."""
    _check(thresh, fraction, tag, delete)
    index = arguments.index(dataset, brain_key, view)
    near = _find(index, thresh, fraction)
    paths = _paths(index, near)
    rows = [
        {
            "original": one,
            "duplicate": i,
            "distance": distance,
            "original_path": paths.get(one),
            "duplicate_path": paths.get(i),
        }
        for one, others in near
        for i, distance in others
    ]
    options = _Options(tag, delete, yes, as_json)
    facts = {"thresh": index.thresh}
    deleted = _finish(index, index.duplicate_ids, "duplicates", rows, _said(index), options, facts)
    if open_app and rows and not deleted:
        results.open_app(index.duplicates_view(), port)


@command(
    SEARCH,
    "groups quickstart similar --thresh 0.02",
    "groups quickstart similar --fraction 0.05 --delete",
    "groups quickstart similar --thresh 0.02 --keep sharpest --save",
)
def groups(
    dataset: DatasetName,
    brain_key: BrainKey,
    thresh: _Thresh = None,
    fraction: _Fraction = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Form groups in which every two are within the distance, and keep the one that is "
            "central, first, sharpest, largest or oldest, oldest:FIELD or tag:NAME. Without it, "
            "every duplicate is within the distance of the first, which is kept.",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="With --keep: put exact copies of files into one group.")
    ] = False,
    save: Annotated[
        bool,
        typer.Option(
            "--save", help="With --keep: write the field 'duplicates', which the App reviews."
        ),
    ] = False,
    view: ViewName = None,
    tag: Tag = None,
    delete: _Delete = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """List groups of near-duplicates: the sample to keep, and its duplicates with their distance.

    `--tag` and `--delete` are for the duplicates, not for the samples to keep.
    """
    if keep is not None:
        if thresh is None or fraction is not None:
            raise typer.BadParameter("--keep needs --thresh, and no --fraction")
    elif files or save:
        raise typer.BadParameter("--files and --save need --keep, such as --keep central")
    _check(thresh, fraction, tag, delete)
    index = arguments.index(dataset, brain_key, view)
    options = _Options(tag, delete, yes, as_json)
    if keep is not None:
        _complete(index, thresh, keep, files, save, options)
        return
    near = _find(index, thresh, fraction)
    paths = _paths(index, near)
    rows = [
        {"group": at, "keep": kept, "distance": distance, "id": i, "path": paths.get(i)}
        for at, (one, others) in enumerate(near, 1)
        for i, distance, kept in ((one, 0.0, True), *((i, d, False) for i, d in others))
    ]
    facts = {"thresh": index.thresh}
    _finish(index, index.duplicate_ids, "groups", rows, _said(index), options, facts)


@command(SEARCH, "leaks quickstart similar test train --thresh 0.02 --tag leak")
def leaks(
    dataset: DatasetName,
    brain_key: BrainKey,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A saved view or a tag.")],
    others: Annotated[
        str, typer.Argument(metavar="OTHERS", help="Another; it shares no sample with the first.")
    ],
    thresh: Annotated[float, typer.Option(help="The largest distance of a pair.")],
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Find what is in one part of the data and nearly in another, such as test and train.

    Exits with 1 if there is something. `--tag` is for those of the first part.
    """
    index = arguments.index(dataset, brain_key)
    parts = [arguments.part(dataset, name) for name in (view, others)]
    with output.unlogged("index.groups"):
        found = index.find_leaks(*parts, thresh)
    paths = results.paths_of(index, [*found.ids, *found.other_ids])
    pairs = zip(found.ids, found.other_ids, found.distances.tolist())
    rows = [
        {"id": a, "other_id": b, "distance": d, "path": paths.get(a), "other_path": paths.get(b)}
        for a, b, d in pairs
    ]
    text = f"{found}{results.tag(index, list(dict.fromkeys(found.ids)), tag)}"
    show_rows("leaks", rows, text, as_json, thresh=thresh, compared=found.compared, tag=tag)
    if rows:
        raise typer.Exit(1)


@command(SEARCH, "unique quickstart similar 50 --tag keep")
def unique(
    dataset: DatasetName,
    brain_key: BrainKey,
    count: Annotated[int, typer.Argument(min=1, help="How many to find.")],
    view: ViewName = None,
    tag: Tag = None,
    open_app: Open = False,
    port: Port = 5151,
    as_json: Json = False,
) -> None:
    """Find samples, or patches, that differ as much as possible from each other."""
    index = arguments.index(dataset, brain_key, view)
    with output.unlogged("index.duplicates"):
        index.find_unique(count)
    found = [str(i) for i in index.unique_ids]
    paths = results.paths_of(index, found)
    rows = [{"id": i, "path": paths.get(i)} for i in found]
    apart = "" if index.thresh is None else f", more than {index.thresh:.4g} apart"
    asked = "" if len(found) == count else f" of {count:,} asked for, as the others are like them"
    text = f"{len(found):,} unique{asked}{apart}{results.tag(index, found, tag)}"
    show_rows("unique", rows, text, as_json, numbered=True, thresh=index.thresh, tag=tag)
    if open_app and found:
        results.open_app(index.unique_view(), port)


def _check(thresh: float | None, fraction: float | None, tag: str | None, delete: bool) -> None:
    if (thresh is None) == (fraction is None):
        raise typer.BadParameter("give one of --thresh and --fraction")
    if tag is not None and delete:
        raise typer.BadParameter("give --tag or --delete, not both")


def _find(
    index: Any, thresh: float | None, fraction: float | None
) -> list[tuple[str, list[tuple[str, float]]]]:
    """Finds duplicates; returns each original with its duplicates and their distances."""
    with output.unlogged("index.duplicates"):
        index.find_duplicates(thresh=thresh, fraction=fraction)
    # The closest first, as in FiftyOne's duplicates_view()
    near = sorted((index.neighbors_map or {}).items(), key=lambda group: group[1][0][1])
    return [(str(one), [(str(i), float(d)) for i, d in others]) for one, others in near]


def _said(index: Any) -> str:
    within = "" if index.thresh is None else f" within {index.thresh:.4g}"
    return f"{len(index.duplicate_ids):,} near-duplicates{within}"


def _paths(index: Any, near: list[tuple[str, list[tuple[str, float]]]]) -> dict[str, str]:
    ids = [i for one, others in near for i in (one, *(i for i, _ in others))]
    return results.paths_of(index, ids)


def _complete(
    index: Any, thresh: float | None, keep: str, files: bool, save: bool, options: _Options
) -> None:
    """Finds groups of which every two are within a distance."""
    with output.unlogged("index.groups"):
        found = index.find_groups(thresh, keep, files=files)
    paths = results.paths_of(index, found.ids)
    members = zip(found.groups.tolist(), found.ranks.tolist(), found.distances.tolist(), found.ids)
    rows = [
        {"group": g, "keep": rank == 0, "rank": rank, "distance": d, "id": i, "path": paths.get(i)}
        for g, rank, d, i in members
    ]
    field = found.save() if save else None
    text = f"{found}{'' if field is None else f', written to {field}'}"
    facts = {"unknown": found.unknown, "field": field, "unread_files": found.unread_files}
    facts |= {"thresh": thresh}
    _finish(index, found.duplicate_ids, "groups", rows, text, options, facts)


def _finish(
    index: Any,
    duplicates: Sequence[Any],
    name: str,
    rows: list[dict[str, Any]],
    text: str,
    options: _Options,
    facts: dict[str, Any],
) -> bool:
    """Prints rows, and tags or deletes duplicates; returns whether they were deleted."""
    ids = [str(i) for i in duplicates]
    text += results.tag(index, ids, options.tag)
    if not options.as_json:
        show_rows(name, rows, text, False)
    deleted = len(ids) if options.delete and results.delete(index, ids, options.yes) else 0
    if options.as_json:
        print_json({**facts, name: rows, "tag": options.tag, "deleted": deleted})
    elif options.delete and ids:
        output.echo(f"Deleted {deleted:,}" if deleted else "Nothing was deleted")
    if options.delete and ids and not deleted:
        raise typer.Exit(1)
    return bool(deleted)
