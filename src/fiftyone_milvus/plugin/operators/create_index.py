"""Create an index."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus import inventory, metrics
from fiftyone_milvus.backend import CONSISTENCY_LEVELS
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.inventory import lifecycle
from fiftyone_milvus.plugin import forms, models
from fiftyone_milvus.plugin.jobs import Job
from fiftyone_milvus.plugin.operator import MilvusOperator, Report
from fiftyone_milvus.schema.columns import resolve_columns

SOURCES = ("model", "field", "collection")
INDEX_TYPES = ("HNSW", "IVF_FLAT", "IVF_SQ8", "FLAT", "AUTOINDEX")
_OPTIONS = ("batch_size", "num_workers", "skip_failures")
_PATCHES = (fo.Detections, fo.Detection, fo.Polylines, fo.Polyline)


class CreateIndex(MilvusOperator):
    """Creates an index of samples or patches, from a model, a field or a collection."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="create_index",
            label="Milvus: create an index",
            description="Index samples or patches by similarity, in Milvus",
            icon="add_chart",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="MEDIUM",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        forms.name_key(ctx, inputs, "brain_key", default=_proposal(ctx), label="Brain key")
        source = _choose_source(inputs, ctx)
        if source == "model":
            _choose_model(inputs)
        elif source == "field":
            _choose_field(ctx, inputs)
        else:
            _choose_collection(inputs)
        if source != "collection":
            forms.choose_target(ctx, inputs, verb="Index", default="view")
        _choose_patches(ctx, inputs)
        inputs.enum(
            "metric",
            list(metrics.METRICS),
            default=None if source == "collection" else "cosine",
            required=source != "collection",
            label="Metric",
            description="What counts as similar; cosine suits most embeddings"
            if source != "collection"
            else "That of the collection, if you leave it out",
        )
        inputs.bool("advanced", default=False, label="Advanced", view=types.SwitchView())
        if ctx.params.get("advanced"):
            _advanced(ctx, inputs, source)
        return types.Property(inputs, view=types.View(label="Create a Milvus index"))

    def job(self, ctx: Any) -> Job:
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), "Creating")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        params = ctx.params
        key = forms.new_key(ctx, "brain_key")
        source = params.get("source", "model")
        if source not in SOURCES:
            raise InvalidInputError(f"Unknown source {source!r}; expected one of {SOURCES}")
        given: dict[str, Any] = {}
        if source == "collection":
            _given(params, "collection_name", "the name of a collection")
        elif source == "field":
            name = "embeddings_field"
            given[name] = _given(params, name, "a field with embeddings")
        else:
            given["model"] = _given(params, "model", "the name of a zoo model")
        samples = ctx.dataset if source == "collection" else forms.target_of(ctx)
        report(None, "Preparing")
        options = {name: params[name] for name in _OPTIONS if name in params}
        options["progress"] = forms.bar(report)
        done = lifecycle.create(samples, key, **given, settings=_settings(params), options=options)
        if source != "model":
            report(1, "Done")
        return {"brain_key": key, "vectors": done.vectors, "failed": dict(done.failed)}

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        failed = result["failed"]
        text = f"Index '{result['brain_key']}' has {result['vectors']:,} vectors"
        if failed:
            text += f"; {len(failed):,} could not be embedded, eg: {next(iter(failed.values()))}"
        return text, "warning" if failed else "success"

    def then(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        yield ctx.ops.reload_dataset()


def _given(params: Any, name: str, what: str) -> Any:
    value = params.get(name)
    if not value:
        raise InvalidInputError(f"Give {name}: {what}")
    return value


def _settings(params: Any) -> dict[str, Any]:
    names = (
        "collection_name", "consistency_level", "fields", "index_params", "index_type", "metric",
        "mmap", "num_partitions", "num_shards", "partition_key", "patches_field", "replicas",
        "search_params",
    )  # fmt: skip
    return {name: params[name] for name in names if params.get(name) not in (None, "", [])}


# -- the form -------------------------------------------------------------------------------------


def _proposal(ctx: Any) -> str:
    taken = set(ctx.dataset.list_brain_runs())
    names = ("similar", *(f"similar_{i}" for i in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _choose_source(inputs: Any, ctx: Any) -> str:
    choices = types.RadioGroup(orientation="horizontal")
    choices.add_choice("model", label="A model", description="Embed with a model of the zoo")
    choices.add_choice("field", label="A field", description="Use embeddings that a field holds")
    choices.add_choice(
        "collection", label="A collection", description="Connect to vectors that are in Milvus"
    )
    inputs.enum("source", SOURCES, default="model", label="Embeddings from", view=choices)
    return str(ctx.params.get("source", "model"))


def _choose_model(inputs: Any) -> None:
    embeddings, others = models.names()
    prompts = [name for name in embeddings if "clip" in name]
    choices = types.AutocompleteView(allow_user_input=True)
    for name in (*embeddings, *others):
        choices.add_choice(name, label=name)
    inputs.str(
        "model",
        required=True,
        default=prompts[0] if prompts else None,
        label="Model",
        description="A CLIP model lets you search by text too",
        view=choices,
    )


def _choose_field(ctx: Any, inputs: Any) -> None:
    schema = ctx.dataset.get_field_schema(flat=True)
    fields = [
        path for path, field in schema.items() if isinstance(field, (fo.VectorField, fo.ArrayField))
    ]
    if not fields:
        inputs.view("no_field", types.Warning(label="This dataset has no field of vectors"))
    inputs.enum("embeddings_field", fields, required=True, label="Field")


def _choose_collection(inputs: Any) -> None:
    try:
        names = [c.name for c in inventory.collections() if c.dimension is not None]
    except FiftyOneMilvusError as error:
        names = []
        inputs.view("no_milvus", types.Error(label=str(error)))
    choices = types.AutocompleteView(allow_user_input=True)
    for name in names:
        choices.add_choice(name, label=name)
    inputs.str(
        "collection_name",
        required=True,
        label="Collection",
        description="Its primary key must hold the IDs of samples or labels",
        view=choices,
    )


def _choose_patches(ctx: Any, inputs: Any) -> None:
    schema = ctx.dataset.get_field_schema(embedded_doc_type=_PATCHES)
    if not schema:
        return
    inputs.enum(
        "patches_field",
        list(schema),
        label="Patches",
        description="Index the objects in this field, instead of whole samples",
    )


def _advanced(ctx: Any, inputs: Any, source: str) -> None:
    if source != "collection":
        inputs.enum(
            "index_type",
            INDEX_TYPES,
            label="Index type",
            description="By default, HNSW on a server and FLAT on the embedded engine",
        )
        inputs.list(
            "fields",
            types.String(),
            label="Fields beside the vectors",
            description="Views that filter by these are searched by Milvus alone",
            view=_field_choices(ctx),
        )
    inputs.enum(
        "consistency_level",
        CONSISTENCY_LEVELS,
        default="Session",
        label="Consistency level",
        description="What a search sees of recent writes",
    )
    if source == "model":
        inputs.int("batch_size", min=1, label="Batch size", description="Of the model")
        inputs.int("num_workers", min=0, label="Workers", description="That load data, for Torch")
        inputs.bool(
            "skip_failures",
            default=True,
            label="Skip failures",
            description="Go on where a sample can't be embedded",
        )
    if source != "collection":
        inputs.str("collection_name", label="Collection", description="By default, a new name")


def _field_choices(ctx: Any) -> Any:
    choices = types.AutocompleteView(allow_user_input=True, allow_duplicates=False)
    patches_field = ctx.params.get("patches_field")
    for path in ctx.dataset.get_field_schema(flat=True):
        with suppress(FiftyOneMilvusError, ValueError):
            resolve_columns(ctx.dataset, patches_field, [path])
            choices.add_choice(path, label=path)
    return choices
