"""The commands for indexes: list, info, create, sync, rename, delete, cleanup."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiftyone_milvus.cli import arguments, completion, output
from fiftyone_milvus.cli.arguments import BrainKey, DatasetName, Settings, Uri, ViewName, Yes
from fiftyone_milvus.cli.output import Json, print_facts, print_json, print_table, show, unlogged
from fiftyone_milvus.cli.registry import INDEXES, command
from fiftyone_milvus.errors import InvalidInputError

if TYPE_CHECKING:
    from fiftyone_milvus.inventory import IndexInfo

_Compare = Annotated[
    bool,
    typer.Option(
        "--compare/--no-compare",
        help="Compare the IDs of dataset and index; takes seconds for a million samples.",
    ),
]
_BatchSize = Annotated[
    int | None, typer.Option(min=1, help="The model's batch size.", show_default=False)
]
_Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that load images for it.", show_default=False)
]


@command(INDEXES, "list --dataset quickstart", name="list")
def list_(
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A dataset; repeatable.",
            show_default="all",
            autocompletion=completion.datasets,
        ),
    ] = None,
    compare: _Compare = True,
    as_json: Json = False,
) -> None:
    """List the Milvus indexes of all datasets, and whether they are up to date."""
    arguments.fiftyone()
    from fiftyone_milvus import inventory

    names = dataset or inventory.datasets()
    found = [
        entry
        for name in names
        for entry in inventory.indexes(arguments.dataset(name), compare=compare)
    ]
    # Of datasets without an index of this package too
    others = [run for run in inventory.built_in_runs() if not dataset or run.dataset in dataset]
    if as_json:
        print_json({"indexes": [_as_dict(entry) for entry in found], "built_in": others})
        return
    if not found and not others:
        output.echo(
            "There is no Milvus index yet; run `fiftyone-milvus create` or `fiftyone-milvus demo`"
        )
        return
    if found:
        print_table(
            ("dataset", "brain key", "of", "collection", "vectors", "metric", "index", "status"),
            [
                (
                    e.dataset, e.brain_key, e.patches_field or "samples", e.collection, e.vectors,
                    e.metric, e.index_type, _status(e),
                )
                for e in found
            ],
        )  # fmt: skip
    for run in others:
        output.echo(
            f"'{run.brain_key}' of '{run.dataset}' is of FiftyOne's built-in backend; to adopt it, "
            f"run `fiftyone-milvus adopt {run.dataset} {run.brain_key}`"
        )


@command(INDEXES, "info quickstart similar --json")
def info(
    dataset: DatasetName, brain_key: BrainKey, compare: _Compare = True, as_json: Json = False
) -> None:
    """Show an index in detail."""
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
            "metadata fields": entry.fields,
            "Milvus": entry.address and f"{entry.address} ({entry.deployment})",
            "collection": entry.collection,
            "vectors": entry.vectors,
            "dimension": entry.dimension,
            "size": None if entry.bytes is None else f"{entry.bytes / 1e6:,.1f} MB of vectors",
            "index type": entry.index_type,
            "index params": entry.index_params,
            "built": None if entry.built is None else f"{entry.built:.0%}",
            "status": _status(entry),
        }
    )


@command(
    INDEXES,
    "create quickstart similar --model clip-vit-base32-torch",
    "create quickstart objects --model clip-vit-base32-torch --patches-field ground_truth "
    "--metric cosine",
    "create quickstart theirs --collection-name vectors_of_theirs",
    "create quickstart large --model clip-vit-base32-torch --index-type HNSW "
    "--set 'index_params={\"M\": 32}' --set num_shards=2",
)
def create(
    dataset: DatasetName,
    brain_key: BrainKey,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of FiftyOne's zoo to embed with.", autocompletion=completion.models
        ),
    ] = None,
    embeddings_field: Annotated[
        str | None, typer.Option(help="A field that holds embeddings.")
    ] = None,
    collection_name: Annotated[
        str | None,
        typer.Option(help="The new collection; without model and field, an existing one."),
    ] = None,
    patches_field: Annotated[
        str | None, typer.Option(help="Index the objects in this field.")
    ] = None,
    view: ViewName = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="cosine, dotproduct or euclidean.",
            show_default="cosine; for an existing collection, its own",
            autocompletion=completion.metrics,
        ),
    ] = None,
    index_type: Annotated[
        str | None,
        typer.Option(
            help="Such as HNSW.", show_default="HNSW on a server, AUTOINDEX on the embedded engine"
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="A metadata field to store with the vectors; repeatable."),
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
    """Create an index with a model, from a field of embeddings, or on an existing collection.

    If it fails or is interrupted, neither run nor new collection is left. If only some samples
    can't be embedded, the index has the others, each reason is printed, and the exit code is 1.
    """
    samples = arguments.samples(dataset, view)
    from fiftyone_milvus.inventory import lifecycle

    if metric is None and (model, embeddings_field) != (None, None):
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
    show(done, as_json, f"Index '{brain_key}' of '{dataset}' has {done.vectors:,} vectors")
    _exit_if_failed(done.failed, as_json)


@command(INDEXES, "sync quickstart similar", "sync quickstart similar --shard 0/4")
def sync(
    dataset: DatasetName,
    brain_key: BrainKey,
    view: ViewName = None,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Remove the vectors of deleted samples.")
    ] = True,
    refresh: Annotated[bool, typer.Option("--refresh", help="Embed edited samples again.")] = False,
    batch_size: _BatchSize = None,
    num_workers: _Workers = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of this machine that embed, for models without a GPU; each loads the "
            "model. With --ray, actors of the cluster; by default, as many as it has room for.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help="Embed on a Ray cluster that this machine is a node of. Without an address, the "
            "one that runs here, or that of RAY_ADDRESS. Needs the package's extra `ray`.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GPUs of each worker of --ray, which may be a part of one such as 0.5.",
            show_default=False,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="[I/N]",
            help="Add part I of N, counted from 0, and remove nothing. Without numbers, those of a "
            "Slurm array or an indexed Kubernetes Job. Run `sync` once without it at the end.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring an index up to date: embed missing samples, remove stale vectors.

    If it is interrupted, the next run continues.
    """
    part = arguments.shard(shard)
    index = arguments.index(dataset, brain_key)
    samples = arguments.samples(dataset, view)
    with unlogged("syncing.sync"):
        report = index.sync(
            samples,
            prune=prune,
            refresh=refresh,
            batch_size=batch_size,
            num_workers=num_workers,
            shard=part,
            workers=workers,
            ray=ray,
            gpus_per_worker=gpus,
        )
    show(report, as_json)
    _exit_if_failed(report.failed, as_json)


@command(INDEXES, "rename quickstart similar looks")
def rename(
    dataset: DatasetName,
    brain_key: BrainKey,
    new_key: Annotated[str, typer.Argument(metavar="NEW_KEY", help="The new brain key.")],
    as_json: Json = False,
) -> None:
    """Rename an index: give it another brain key. Its collection keeps its name."""
    found = arguments.dataset(dataset)
    from fiftyone_milvus.inventory import lifecycle

    lifecycle.rename(found, brain_key, new_key)
    renamed = {"brain_key": brain_key, "new_key": new_key}
    show(renamed, as_json, f"Index '{brain_key}' of '{dataset}' is '{new_key}' now")


@command(INDEXES, "delete quickstart similar --yes")
def delete(
    dataset: DatasetName,
    brain_key: BrainKey,
    part: Annotated[
        str, typer.Option("--only", help="`run` or `collection`.", show_default="both")
    ] = "both",
    yes: Yes = False,
    drop_shared: Annotated[
        bool,
        typer.Option(
            "--drop-shared",
            help="With --yes: also drop a collection that other runs use, or that was not made "
            "for this index.",
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
        question = f"Delete brain run '{brain_key}', and keep collection '{collection}'?"
    else:
        # Raises before the question if Milvus does not answer
        loss = lifecycle.loss(found, brain_key)
        if loss.shared and yes and not drop_shared:
            raise InvalidInputError(
                f"Not deleted: {loss}; pass --only run to keep the collection, or --drop-shared"
            )
        what = "all of it" if part == "both" else "the collection"
        text = str(loss)
        question = f"{text[:1].upper()}{text[1:]}. Delete {what}?"
    if not arguments.confirm(question, yes):
        raise typer.Exit(1)
    vectors = lifecycle.delete(found, brain_key, part)
    deleted = {"brain_key": brain_key, "part": part, "collection": collection, "vectors": vectors}
    show(deleted, as_json, f"Deleted {brain_key} ({part}), {vectors:,} vectors")


@command(INDEXES, "cleanup --dry-run", "cleanup fiftyone_old_similar --yes")
def cleanup(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COLLECTION]...", help="Their names.", show_default="all of them"),
    ] = None,
    uri: Uri = None,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list them; exit with 1 if there are any.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Drop orphaned collections: FiftyOne deleted their dataset or brain run.

    `--json` without a name or `--yes` is `--dry-run` too.
    """
    arguments.fiftyone()
    from fiftyone_milvus import inventory

    connection = inventory.configured(uri)
    orphans = [c for c in inventory.collections(connection) if c.owner == "orphan"]
    chosen = list(names or [c.name for c in orphans])
    if not as_json:
        for entry in orphans:
            if entry.name in chosen:
                output.echo(f"{entry.name}: {entry.vectors:,} vectors; {entry.why}")
    dropped: list[str] = []
    what = f"{len(chosen)} collection{'s' * (len(chosen) > 1)}"
    question = f"Drop {what} at {connection.target.address}?"
    only_listed = dry_run or (as_json and not names and not yes)
    if chosen and not only_listed and arguments.confirm(question, yes):
        dropped = inventory.clean_up(chosen, connection)
    if as_json:
        print_json({"orphans": orphans, "dropped": dropped})
    elif dropped:
        output.echo(f"Dropped {', '.join(dropped)}")
    else:
        output.echo("Nothing was dropped" if chosen else "There are no orphaned collections")
    if chosen and not dropped:
        raise typer.Exit(1)


def _status(entry: IndexInfo) -> str:
    if entry.error is not None:
        return entry.error
    if entry.exists is False:
        return "no collection: run `fiftyone-milvus sync`"
    return entry.difference


def _as_dict(entry: IndexInfo) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "bytes": entry.bytes, "in_step": entry.in_step}


def _exit_if_failed(failed: Any, as_json: bool) -> None:
    """Prints the first failures, and exits with 1 if there are any."""
    if not failed:
        return
    if not as_json:
        lines = [f"{key}: {why}" for key, why in list(failed.items())[:10]]
        if len(failed) > 10:
            lines.append(f"... and {len(failed) - 10:,} more")
        typer.secho("\n".join(lines), fg=typer.colors.YELLOW, err=True)
    raise typer.Exit(1)
