"""Indexes: list, info, create, sync, delete, cleanup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, Settings, Uri, ViewName, Yes
from fiftyone_milvus.cli.output import Json, print_facts, print_json, print_table, unlogged
from fiftyone_milvus.errors import InvalidInputError

if TYPE_CHECKING:
    from fiftyone_milvus.inventory import IndexInfo

PANEL = "Indexes"

_Compare = Annotated[
    bool,
    typer.Option(
        "--compare/--no-compare",
        help="Compare the IDs of dataset and index: seconds for a million samples.",
    ),
]
_BatchSize = Annotated[int | None, typer.Option(min=1, help="Of the model.", show_default=False)]
_Workers = Annotated[
    int | None, typer.Option(min=0, help="That load data, for Torch models.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        "list", rich_help_panel=PANEL, epilog="Example: fiftyone-milvus list --dataset quickstart"
    )(list_)
    app.command(
        rich_help_panel=PANEL, epilog="Example: fiftyone-milvus info quickstart similar --json"
    )(info)
    app.command(
        rich_help_panel=PANEL,
        epilog="Examples:\n\n"
        "  fiftyone-milvus create quickstart similar --model clip-vit-base32-torch\n\n"
        "  fiftyone-milvus create quickstart objects --model clip-vit-base32-torch --patches-field "
        "ground_truth --metric cosine\n\n"
        "  fiftyone-milvus create quickstart theirs --collection-name vectors_of_theirs\n\n"
        "  fiftyone-milvus create quickstart large --model clip-vit-base32-torch --index-type HNSW "
        "--set 'index_params={\"M\": 32}' --set num_shards=2",
    )(create)
    app.command(rich_help_panel=PANEL, epilog="Example: fiftyone-milvus sync quickstart similar")(
        sync
    )
    app.command(
        rich_help_panel=PANEL, epilog="Example: fiftyone-milvus delete quickstart similar --yes"
    )(delete)
    app.command(
        rich_help_panel=PANEL,
        epilog="Examples:\n\n  fiftyone-milvus cleanup\n\n"
        "  fiftyone-milvus cleanup fiftyone_old_similar --yes",
    )(cleanup)


def list_(
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of this dataset only; repeatable.", show_default="all"),
    ] = None,
    compare: _Compare = True,
    as_json: Json = False,
) -> None:
    """List the Milvus indexes of all datasets, and whether they are in step."""
    arguments.fiftyone()
    from fiftyone_milvus import inventory

    names = dataset or inventory.datasets()
    found = [
        entry
        for name in names
        for entry in inventory.indexes(arguments.dataset(name), compare=compare)
    ]
    # Those of all datasets: whoever comes from the built-in has no index of ours yet
    others = [run for run in inventory.built_in_runs() if not dataset or run.dataset in dataset]
    if as_json:
        print_json({"indexes": [_as_dict(entry) for entry in found], "built_in": others})
        return
    if not found and not others:
        typer.echo(
            "There is no Milvus index yet; make one with `fiftyone-milvus create`, or see "
            "`fiftyone-milvus demo`"
        )
        return
    if found:
        print_table(
            ("dataset", "brain key", "of", "collection", "vectors", "metric", "index", "in step"),
            [
                (
                    e.dataset, e.brain_key, e.patches_field or "samples", e.collection, e.vectors,
                    e.metric, e.index_type, _step(e),
                )
                for e in found
            ],
        )  # fmt: skip
    for run in others:
        typer.echo(
            f"'{run.brain_key}' of '{run.dataset}' is of FiftyOne's built-in backend; take it over "
            f"with `fiftyone-milvus adopt {run.dataset} {run.brain_key}`"
        )


def info(
    dataset: DatasetName, brain_key: BrainKey, compare: _Compare = True, as_json: Json = False
) -> None:
    """Show what there is to know of an index."""
    found = arguments.dataset(dataset)
    from fiftyone_milvus import inventory

    entry = inventory.index_info(found, brain_key, compare=compare)
    if as_json:
        print_json(_as_dict(entry))
        return
    print_facts(
        {
            "dataset": entry.dataset,
            "brain key": entry.brain_key,
            "of": (entry.patches_field and f"patches in {entry.patches_field}") or "samples",
            "model": entry.model,
            "embeddings field": entry.embeddings_field,
            "metric": entry.metric,
            "consistency level": entry.consistency_level,
            "fields": entry.fields,
            "Milvus": entry.address and f"{entry.address} ({entry.deployment})",
            "collection": entry.collection,
            "vectors": entry.vectors,
            "dimension": entry.dimension,
            "size": None if entry.bytes is None else f"{entry.bytes / 1e6:,.1f} MB of vectors",
            "index type": entry.index_type,
            "index params": entry.index_params,
            "built": None if entry.built is None else f"{entry.built:.0%}",
            "in step": _step(entry),
        }
    )


def create(
    dataset: DatasetName,
    brain_key: BrainKey,
    model: Annotated[
        str | None, typer.Option(help="A model of FiftyOne's zoo to embed with.")
    ] = None,
    embeddings_field: Annotated[
        str | None, typer.Option(help="A field that holds embeddings.")
    ] = None,
    collection_name: Annotated[
        str | None,
        typer.Option(help="The collection to make; without a model or field, to connect to."),
    ] = None,
    patches_field: Annotated[
        str | None, typer.Option(help="Index the objects in this field.")
    ] = None,
    view: ViewName = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="cosine, dotproduct or euclidean.",
            show_default="cosine; of a collection, its own",
        ),
    ] = None,
    index_type: Annotated[
        str | None,
        typer.Option(help="As HNSW.", show_default="HNSW on a server, FLAT on the embedded engine"),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="A field to store beside the vectors; repeatable."),
    ] = None,
    consistency_level: Annotated[
        str, typer.Option(help="Strong, Session, Bounded or Eventually.")
    ] = "Session",
    uri: Uri = None,
    more: Settings = None,
    batch_size: _BatchSize = None,
    num_workers: _Workers = None,
    as_json: Json = False,
) -> None:
    """Index a dataset: with a model, of a field of embeddings, or on an existing collection.

    What fails or is interrupted leaves nothing behind. Where only some samples can't be embedded,
    the index of the others is kept, each is named with its reason, and the exit code is 1.
    """
    samples = arguments.samples(dataset, view)
    from fiftyone_milvus.inventory import lifecycle

    connecting = model is None and embeddings_field is None
    if metric is None and not connecting:
        metric = "cosine"
    settings = arguments.settings(
        more,
        collection_name=collection_name,
        patches_field=patches_field,
        metric=metric,
        index_type=index_type,
        fields=fields,
        consistency_level=consistency_level,
        uri=uri,
        also=("model_kwargs",) if model is not None else (),
    )
    done = lifecycle.create(
        samples,
        brain_key,
        model=model,
        embeddings_field=embeddings_field,
        settings=settings,
        options={"batch_size": batch_size, "num_workers": num_workers},
    )
    if as_json:
        print_json(done)
    else:
        typer.echo(f"Index '{brain_key}' of '{dataset}' has {done.vectors:,} vectors")
        _tell_failed(done.failed)
    if done.failed:
        raise typer.Exit(1)


def sync(
    dataset: DatasetName,
    brain_key: BrainKey,
    view: ViewName = None,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Remove vectors of samples that are gone.")
    ] = True,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Embed again what was edited since.")
    ] = False,
    batch_size: _BatchSize = None,
    num_workers: _Workers = None,
    as_json: Json = False,
) -> None:
    """Bring an index in step with its dataset: embed what is missing, remove what is gone.

    Interrupted, it goes on from there the next time.
    """
    index = arguments.index(dataset, brain_key)
    samples = arguments.samples(dataset, view)
    with unlogged("syncing.sync"):
        report = index.sync(
            samples, prune=prune, refresh=refresh, batch_size=batch_size, num_workers=num_workers
        )
    if as_json:
        print_json(report)
    else:
        typer.echo(str(report))
        _tell_failed(report.failed)
    if report.failed:
        raise typer.Exit(1)


def delete(
    dataset: DatasetName,
    brain_key: BrainKey,
    part: Annotated[
        str, typer.Option("--only", help="`run` or `collection`.", show_default="both of them")
    ] = "both",
    yes: Yes = False,
    drop_shared: Annotated[
        bool,
        typer.Option(
            "--drop-shared",
            help="With --yes: drop the collection even if it was not made for this index, or if "
            "others use it.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete an index: its brain run and its collection, or one of them."""
    if part not in ("both", "run", "collection"):
        raise typer.BadParameter(f"--only {part}: expected run or collection")
    found = arguments.dataset(dataset)
    from fiftyone_milvus import inventory
    from fiftyone_milvus.inventory import lifecycle

    collection = inventory.stored_index.open_index(found, brain_key).config.collection_name
    if part == "run":
        question = f"Delete brain run '{brain_key}', and leave collection '{collection}'?"
    else:
        # Before the question: a Milvus that is silent can't be asked what would be lost
        loss = lifecycle.loss(found, brain_key)
        if loss.shared and yes and not drop_shared:
            raise InvalidInputError(
                f"Not deleted: {loss}; pass --only run to leave the collection, or --drop-shared"
            )
        what = "all of it" if part == "both" else "the collection"
        question = f"{_sentence(str(loss))}. Delete {what}?"
    if not arguments.confirm(question, yes):
        raise typer.Exit(1)
    vectors = lifecycle.delete(found, brain_key, part)
    if as_json:
        print_json(
            {"brain_key": brain_key, "part": part, "collection": collection, "vectors": vectors}
        )
    else:
        typer.echo(f"Deleted {brain_key} ({part}), {vectors:,} vectors")


def cleanup(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COLLECTION]...", help="Which.", show_default="every orphan"),
    ] = None,
    uri: Uri = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Drop collections whose dataset or brain run is gone; FiftyOne leaves them behind.

    With `--json` and neither a name nor `--yes` it only lists them, and exits with 1 if there are.
    """
    arguments.fiftyone()
    from fiftyone_milvus import inventory

    connection = inventory.configured(uri)
    orphans = [c for c in inventory.collections(connection) if c.owner == "orphan"]
    chosen = list(names or [c.name for c in orphans])
    if not as_json:
        for entry in orphans:
            if entry.name in chosen:
                typer.echo(f"{entry.name}: {entry.vectors:,} vectors; {entry.why}")
    dropped: list[str] = []
    what = f"{len(chosen)} collection{'s' * (len(chosen) > 1)}"
    question = f"Drop {what} at {connection.target.address}?"
    only_listed = as_json and not names and not yes
    if chosen and not only_listed and arguments.confirm(question, yes):
        dropped = inventory.clean_up(chosen, connection)
    if as_json:
        print_json({"orphans": orphans, "dropped": dropped})
    elif dropped:
        typer.echo(f"Dropped {', '.join(dropped)}")
    else:
        typer.echo("Nothing was dropped" if chosen else "There are no orphans")
    if chosen and not dropped:
        raise typer.Exit(1)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _step(entry: IndexInfo) -> str:
    if entry.error is not None:
        return entry.error
    if entry.exists is False:
        return "no collection yet, or it was dropped: sync it"
    parts = [
        f"{entry.missing:,} missing" if entry.missing else "",
        f"{entry.stale:,} stale" if entry.stale else "",
        "fields out of date" if entry.fields_stale else "",
    ]
    found = ", ".join(filter(None, parts))
    return found or ("not compared" if entry.in_step is None else "in step")


def _as_dict(entry: IndexInfo) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(entry), "bytes": entry.bytes, "in_step": entry.in_step}


def _tell_failed(failed: Any) -> None:
    for key, why in list(failed.items())[:10]:
        typer.secho(f"{key}: {why}", fg=typer.colors.YELLOW, err=True)
    if len(failed) > 10:
        typer.secho(f"... and {len(failed) - 10:,} more", fg=typer.colors.YELLOW, err=True)
