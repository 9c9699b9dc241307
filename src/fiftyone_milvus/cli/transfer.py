"""The commands that move indexes: adopt, migrate, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments, output
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, Settings, Uri
from fiftyone_milvus.cli.output import Json, print_json, show, unlogged
from fiftyone_milvus.cli.registry import MOVING, command

_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing run with that key.")
]
_Fields = Annotated[
    list[str] | None,
    typer.Option("--field", help="A field of the dataset; repeatable.", show_default=False),
]
_Metric = Annotated[
    str | None, typer.Option(help="cosine, dotproduct or euclidean.", show_default=False)
]
_IndexType = Annotated[str | None, typer.Option(help="Such as HNSW.", show_default=False)]
_Collection = Annotated[
    str | None, typer.Option(help="The name of the new collection.", show_default=False)
]


@command(MOVING, "adopt quickstart", "adopt quickstart similar --revert")
def adopt(
    dataset: DatasetName,
    brain_key: Annotated[
        str | None,
        typer.Argument(metavar="[BRAIN_KEY]", help="The brain key of a run.", show_default="all"),
    ] = None,
    revert: Annotated[
        bool, typer.Option("--revert", help="Give it back to the built-in backend.")
    ] = False,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Make runs of FiftyOne's built-in `milvus` backend this package's; nothing is uploaded."""
    found = arguments.dataset(dataset)
    from fiftyone_milvus import moving

    credentials = {} if uri is None else {"uri": uri}
    if revert:
        if brain_key is None:
            raise typer.BadParameter("--revert needs a BRAIN_KEY")
        back = moving.revert(found, brain_key, **credentials)
        show(back, as_json, f"'{brain_key}' is of FiftyOne's built-in backend again")
        return
    keys = moving.adoptable(found) if brain_key is None else [brain_key]
    done = []
    for key in keys:
        with unlogged("moving.adoption"):
            done.append(moving.adopt(found, key, **credentials))
        # At once, as the next one may fail
        if not as_json:
            output.echo(done[-1])
    if as_json:
        print_json(done)
    elif not done:
        output.echo(f"Dataset '{dataset}' has no run of FiftyOne's built-in milvus backend")


@command(
    MOVING,
    "migrate quickstart sklearn_index --to similar",
    "migrate quickstart similar --uri http://localhost:19530",
)
def migrate(
    dataset: DatasetName,
    brain_key: BrainKey,
    to: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The key of the new run.", show_default="the same"),
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
    """Copy an index of any FiftyOne backend into a Milvus, without embedding again.

    If it is interrupted, the same command continues. The old run is replaced at the end.
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
    with unlogged("moving.migration"):
        done = moving.migrate(found, brain_key, to, overwrite=overwrite, **settings)
    show(done, as_json)


@command(MOVING, "export quickstart similar similar.parquet --field tags")
def export(
    dataset: DatasetName,
    brain_key: BrainKey,
    path: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    fields: _Fields = None,
    as_json: Json = False,
) -> None:
    """Write the vectors of an index, of any backend, to a Parquet file.

    Without `--field`, the file gets the metadata fields of the index.
    """
    found = arguments.dataset(dataset)
    from fiftyone_milvus import moving

    with unlogged("moving.parquet_export"):
        done = moving.export_index(found, brain_key, path, fields=fields)
    show(done, as_json)


@command(MOVING, "import similar.parquet quickstart similar", name="import")
def import_(
    path: Annotated[Path, typer.Argument(help="A Parquet file.", exists=True, dir_okay=False)],
    dataset: DatasetName,
    brain_key: BrainKey,
    uri: Uri = None,
    collection_name: _Collection = None,
    patches_field: Annotated[
        str | None,
        typer.Option(
            help="The field of the patches, if the keys are label IDs.", show_default=False
        ),
    ] = None,
    metric: _Metric = None,
    index_type: _IndexType = None,
    fields: _Fields = None,
    more: Settings = None,
    overwrite: _Overwrite = False,
    trust_model: Annotated[
        bool,
        typer.Option(
            "--trust-model",
            help="Use the model of the file even if FiftyOne's zoo does not know it.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create an index from a Parquet file: an exported one, or any with `pk` and `vector`."""
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
    with unlogged("moving.parquet_import"):
        done = moving.import_index(
            path, found, brain_key, overwrite=overwrite, trust_model=trust_model, **settings
        )
    show(done, as_json)
