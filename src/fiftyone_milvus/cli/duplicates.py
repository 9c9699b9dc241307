"""The commands that compare samples with each other: duplicates, groups, leaks, unique."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from fiftyone_milvus.cli import arguments, output, results
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, ViewName, Yes
from fiftyone_milvus.cli.output import Json, print_json, print_table
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
_Groups = list[tuple[str, list[tuple[str, float]]]]


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

    def rows(groups: _Groups, paths: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
        return "duplicates", [
            {
                "original": one,
                "duplicate": i,
                "distance": distance,
                "original_path": paths.get(one),
                "duplicate_path": paths.get(i),
            }
            for one, others in groups
            for i, distance in others
        ]

    _check(thresh, fraction, tag, delete)
    index = arguments.index(dataset, brain_key, view)
    found = _find(index, thresh, fraction, rows, tag, delete, yes, as_json)
    if open_app and found:
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
        _check(thresh, fraction, tag, delete)
        index = arguments.index(dataset, brain_key, view)
        _complete(index, thresh, keep, files, save, tag, delete, yes, as_json)
        return
    if files or save:
        raise typer.BadParameter("--files and --save need --keep, such as --keep central")

    def rows(groups: _Groups, paths: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
        return "groups", [
            {"group": at, "keep": keep, "distance": distance, "id": i, "path": paths.get(i)}
            for at, (one, others) in enumerate(groups, 1)
            for i, distance, keep in ((one, 0.0, True), *((i, d, False) for i, d in others))
        ]

    _check(thresh, fraction, tag, delete)
    index = arguments.index(dataset, brain_key, view)
    _find(index, thresh, fraction, rows, tag, delete, yes, as_json)


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
    results.tag(index, list(dict.fromkeys(found.ids)), tag)
    if as_json:
        print_json({"thresh": thresh, "leaks": rows, "compared": found.compared, "tag": tag})
    else:
        if rows:
            print_table([n.replace("_", " ") for n in rows[0]], [list(r.values()) for r in rows])
        output.echo(f"{found}{_tagged(tag)}")
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
    results.tag(index, found, tag)
    rows = [{"id": i, "path": paths.get(i)} for i in found]
    if as_json:
        print_json({"thresh": index.thresh, "unique": rows, "tag": tag})
    else:
        if rows:
            print_table(("", "id", "path"), [(at, *r.values()) for at, r in enumerate(rows, 1)])
        apart = "" if index.thresh is None else f", more than {index.thresh:.4g} apart"
        asked = (
            "" if len(found) == count else f" of {count:,} asked for, as the others are like them"
        )
        output.echo(f"{len(found):,} unique{asked}{apart}{_tagged(tag)}")
    if open_app and found:
        results.open_app(index.unique_view(), port)


def _check(thresh: float | None, fraction: float | None, tag: str | None, delete: bool) -> None:
    if (thresh is None) == (fraction is None):
        raise typer.BadParameter("give one of --thresh and --fraction")
    if tag is not None and delete:
        raise typer.BadParameter("give --tag or --delete, not both")


def _find(
    index: Any,
    thresh: float | None,
    fraction: float | None,
    make_rows: Callable[[_Groups, dict[str, str]], tuple[str, list[dict[str, Any]]]],
    tag: str | None,
    delete: bool,
    yes: bool,
    as_json: bool,
) -> list[str]:
    """Finds duplicates, prints them as rows, and tags or deletes them; returns the IDs."""
    with output.unlogged("index.duplicates"):
        index.find_duplicates(thresh=thresh, fraction=fraction)
    found = [str(i) for i in index.duplicate_ids]
    # The closest first, as in FiftyOne's duplicates_view()
    near = sorted((index.neighbors_map or {}).items(), key=lambda group: group[1][0][1])
    pairs = [(str(one), [(str(i), float(d)) for i, d in others]) for one, others in near]
    ids = [i for one, others in pairs for i in (one, *(i for i, _ in others))]
    name, rows = make_rows(pairs, results.paths_of(index, ids))
    results.tag(index, found, tag)
    if not as_json:
        if rows:
            print_table([n.replace("_", " ") for n in rows[0]], [list(r.values()) for r in rows])
        within = "" if index.thresh is None else f" within {index.thresh:.4g}"
        output.echo(f"{len(found):,} near-duplicates{within}{_tagged(tag)}")
    deleted = 0
    if delete and results.delete(index, found, yes):
        deleted = len(found)
    if as_json:
        print_json({"thresh": index.thresh, name: rows, "tag": tag, "deleted": deleted})
    elif delete and found:
        output.echo(f"Deleted {deleted:,}" if deleted else "Nothing was deleted")
    if delete and found and not deleted:
        raise typer.Exit(1)
    return [] if deleted else found


def _complete(
    index: Any,
    thresh: float,
    keep: str,
    files: bool,
    save: bool,
    tag: str | None,
    delete: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Finds groups of which every two are within a distance, prints them, and tags or deletes."""
    with output.unlogged("index.groups"):
        found = index.find_groups(thresh, keep, files=files)
    paths = results.paths_of(index, found.ids)
    members = zip(found.groups.tolist(), found.ranks.tolist(), found.distances.tolist(), found.ids)
    rows = [
        {"group": g, "keep": rank == 0, "rank": rank, "distance": d, "id": i, "path": paths.get(i)}
        for g, rank, d, i in members
    ]
    field = found.save() if save else None
    results.tag(index, found.duplicate_ids, tag)
    if not as_json:
        if rows:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        output.echo(f"{found}{_tagged(tag)}{'' if field is None else f', written to {field}'}")
    deleted = 0
    if delete and results.delete(index, found.duplicate_ids, yes):
        deleted = len(found.duplicate_ids)
    if as_json:
        facts = {"thresh": thresh, "groups": rows, "unknown": found.unknown, "field": field}
        print_json({**facts, "unread_files": found.unread_files, "tag": tag, "deleted": deleted})
    elif delete and found.duplicate_ids:
        output.echo(f"Deleted {deleted:,}" if deleted else "Nothing was deleted")
    if delete and found.duplicate_ids and not deleted:
        raise typer.Exit(1)


def _tagged(tag: str | None) -> str:
    return "" if tag is None else f", tagged '{tag}'"
