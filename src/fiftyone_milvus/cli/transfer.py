"""Indexes move: adopt, migrate, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, Settings, Uri
from fiftyone_milvus.cli.output import Json, print_json, unlogged

PANEL = "Moving"

_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of that key.")]
_Fields = Annotated[
    list[str] | None, typer.Option("--field", help="A field; repeatable.", show_default=False)
]
_Metric = Annotated[
    str | None, typer.Option(help="cosine, dotproduct or euclidean.", show_default=False)
]
_IndexType = Annotated[str | None, typer.Option(help="As HNSW.", show_default=False)]
_Collection = Annotated[
    str | None, typer.Option(help="The name of the new collection.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        rich_help_panel=PANEL,
        epilog="Examples:\n\n  fiftyone-milvus adopt quickstart\n\n"
        "  fiftyone-milvus adopt quickstart similar --revert",
    )(adopt)
    app.command(
        rich_help_panel=PANEL,
        epilog="Examples:\n\n"
        "  fiftyone-milvus migrate quickstart sklearn_index --to similar\n\n"
        "  fiftyone-milvus migrate quickstart similar --uri http://localhost:19530",
    )(migrate)
    app.command(
        "export",
        rich_help_panel=PANEL,
        epilog="Example: fiftyone-milvus export quickstart similar similar.parquet --field tags",
    )(export)
    app.command(
        "import",
        rich_help_panel=PANEL,
        epilog="Example: fiftyone-milvus import similar.parquet quickstart similar",
    )(import_)


def adopt(
    dataset: DatasetName,
    brain_key: Annotated[
        str | None,
        typer.Argument(metavar="[BRAIN_KEY]", help="Of a run.", show_default="every one"),
    ] = None,
    revert: Annotated[
        bool, typer.Option("--revert", help="Give it back to the built-in backend.")
    ] = False,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Take over runs of FiftyOne's built-in `milvus` backend, in place: nothing is uploaded."""
    found = arguments.dataset(dataset)
    from fiftyone_milvus import moving

    credentials = {} if uri is None else {"uri": uri}
    if revert:
        if brain_key is None:
            raise typer.BadParameter("say which BRAIN_KEY to give back")
        back = moving.revert(found, brain_key, **credentials)
        if as_json:
            print_json(back)
        else:
            typer.echo(f"'{brain_key}' is of FiftyOne's built-in backend")
        return
    keys = moving.adoptable(found) if brain_key is None else [brain_key]
    done = []
    for key in keys:
        with unlogged("moving.adopting"):
            done.append(moving.adopt(found, key, **credentials))
        # At once: the next one may fail
        if not as_json:
            typer.echo(done[-1])
    if as_json:
        print_json(done)
        return
    if not done:
        typer.echo(f"Dataset '{dataset}' has no run of FiftyOne's built-in milvus backend")


def migrate(
    dataset: DatasetName,
    brain_key: BrainKey,
    to: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The key of the new run.", show_default="replaces it"),
    ] = None,
    uri: Uri = None,
    collection_name: _Collection = None,
    metric: _Metric = None,
    index_type: _IndexType = None,
    fields: _Fields = None,
    more: Settings = None,
    overwrite: _Overwrite = False,
    as_json: Json = False,
) -> None:
    """Move an index of any FiftyOne backend to Milvus, or to another Milvus, without embedding.

    Interrupted, the same command goes on. The old run is replaced when all vectors are there.
    """
    found = arguments.dataset(dataset)
    from fiftyone_milvus import moving

    settings = arguments.settings(
        more,
        uri=uri,
        collection_name=collection_name,
        metric=metric,
        index_type=index_type,
        fields=fields,
    )
    with unlogged("moving.migrating"):
        done = moving.migrate(found, brain_key, to, overwrite=overwrite, **settings)
    print_json(done) if as_json else typer.echo(done)


def export(
    dataset: DatasetName,
    brain_key: BrainKey,
    path: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    fields: _Fields = None,
    as_json: Json = False,
) -> None:
    """Write the vectors of an index, of any backend, to a Parquet file.

    Without `--field`, with the fields that are beside the vectors.
    """
    found = arguments.dataset(dataset)
    from fiftyone_milvus import moving

    with unlogged("moving.exporting"):
        done = moving.export_index(found, brain_key, path, fields=fields)
    print_json(done) if as_json else typer.echo(done)


def import_(
    path: Annotated[Path, typer.Argument(help="A Parquet file.", exists=True, dir_okay=False)],
    dataset: DatasetName,
    brain_key: BrainKey,
    uri: Uri = None,
    collection_name: _Collection = None,
    patches_field: Annotated[
        str | None, typer.Option(help="Whose patches the keys are.", show_default=False)
    ] = None,
    metric: _Metric = None,
    index_type: _IndexType = None,
    fields: _Fields = None,
    more: Settings = None,
    overwrite: _Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make an index from a Parquet file: an exported one, or any with `pk` and `vector`."""
    found = arguments.dataset(dataset)
    from fiftyone_milvus import moving

    settings = arguments.settings(
        more,
        uri=uri,
        collection_name=collection_name,
        patches_field=patches_field,
        metric=metric,
        index_type=index_type,
        fields=fields,
    )
    with unlogged("moving.importing"):
        done = moving.import_index(path, found, brain_key, overwrite=overwrite, **settings)
    print_json(done) if as_json else typer.echo(done)
