"""The operator that creates an index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types
from bson import json_util

from fiftyone_milvus import inventory, metrics
from fiftyone_milvus.backend import CONSISTENCY_LEVELS
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.inventory import lifecycle
from fiftyone_milvus.plugin import forms, models, silence
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report
from fiftyone_milvus.plugin.places import Place
from fiftyone_milvus.schema.columns import resolve_columns
from fiftyone_milvus.schema.scale import MAX_PARTITIONS, MAX_SHARDS
from fiftyone_milvus.schema.support import offered

_NEEDED = {
    "model": ("model", "the name of a zoo model"),
    "field": ("embeddings_field", "a field with embeddings"),
    "collection": ("collection_name", "the name of a collection"),
}
"""For each source of embeddings, the parameter that it needs."""

_INDEX_TYPES = ("FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "AUTOINDEX")
"""Those that every Milvus has."""

_OPTIONS = ("batch_size", "num_workers", "skip_failures")
_SETTINGS = (
    "collection_name", "consistency_level", "fields", "index_params", "index_type", "metric",
    "mmap", "num_partitions", "num_shards", "partition_key", "patches_field", "replicas",
    "search_params",
)  # fmt: skip
_PATCHES = (fo.Detections, fo.Detection, fo.Polylines, fo.Polyline)


class CreateIndex(MilvusOperator):
    """Create an index of samples or patches, to search them by similarity."""

    info = Info(
        name="create_index",
        title="create an index",
        icon="add_chart",
        risk="MEDIUM",
        job="Creating",
        reloads=True,
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        forms.name_key(ctx, inputs, "brain_key", default=_free_key(ctx), label="Brain key")
        source = _choose_source(ctx, inputs)
        if source == "model":
            _choose_model(ctx, inputs)
        elif source == "field":
            _choose_field(ctx, inputs)
        else:
            _choose_collection(inputs)
        if source != "collection":
            forms.choose_target(ctx, inputs, verb="Index", default="view")
        patches = list(ctx.dataset.get_field_schema(embedded_doc_type=_PATCHES))
        if patches:
            inputs.enum(
                "patches_field",
                patches,
                label="Patches",
                description="Index the objects in this field, instead of whole samples",
            )
        inputs.enum(
            "metric",
            list(metrics.METRICS),
            default=None if source == "collection" else "cosine",
            required=source != "collection",
            label="Metric",
            description="By default, the metric of the collection"
            if source == "collection"
            else "How similarity is measured; cosine suits most embeddings",
        )
        inputs.bool("advanced", default=False, label="Advanced", view=types.SwitchView())
        if ctx.params.get("advanced"):
            _advanced(ctx, inputs, source)

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        params = ctx.params
        key = params.get("brain_key")
        source = params.get("source", "model")
        if source not in _NEEDED:
            raise InvalidInputError(f"Unknown source {source!r}; expected one of {(*_NEEDED,)}")
        name, what = _NEEDED[source]
        if not params.get(name):
            raise InvalidInputError(f"Give {name}: {what}")
        # The collection is one of the settings
        given = {} if source == "collection" else {name: params[name]}
        samples = ctx.dataset if source == "collection" else forms.target_of(ctx)
        report(None, "Preparing")
        settings = {n: params[n] for n in _SETTINGS if params.get(n) not in (None, "", [])}
        options = {n: params[n] for n in _OPTIONS if n in params}
        options["progress"] = forms.bar(report)
        done = lifecycle.create(samples, key, **given, settings=settings, options=options)
        if source != "model":
            report(0.99, "Done")
        return {"brain_key": key, "vectors": done.vectors, "failed": dict(done.failed)}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        failed = result["failed"]
        text = f"Index '{result['brain_key']}' has {result['vectors']:,} vectors"
        if failed:
            reason = next(iter(failed.values()))
            text += f"; {len(failed):,} could not be embedded, for example: {reason}"
        return text, "warning" if failed else "success"


def _free_key(ctx: Any) -> str:
    taken = set(ctx.dataset.list_brain_runs())
    names = ("similar", *(f"similar_{i}" for i in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _choose_source(ctx: Any, inputs: Any) -> str:
    sources = {
        "model": ("A model", "Embed with a model of the zoo"),
        "field": ("A field", "Use the embeddings in a field"),
        "collection": ("A collection", "Use the vectors of a Milvus collection"),
    }
    view = types.RadioGroup(orientation="horizontal")
    forms.choose(inputs, "source", sources, view, default="model", label="Embeddings from")
    return str(ctx.params.get("source", "model"))


def _choose_model(ctx: Any, inputs: Any) -> None:
    embeddings, others = models.names()
    default = next((name for name in embeddings if "clip" in name), None)
    _suggest(
        inputs,
        "model",
        (*embeddings, *others),
        default=default,
        label="Model",
        description=f"Type to search the {len(embeddings) + len(others):,} models of the zoo; a "
        "CLIP model lets you search by text too",
    )
    name = str(ctx.params.get("model") or default or "")
    known = models.describe(name) if name else ""
    if known:
        inputs.md(known, name="model_described")
    elif known is None and "/" not in name:
        inputs.view("model_unknown", types.Warning(label=f"The zoo has no model '{name}'"))


def _choose_field(ctx: Any, inputs: Any) -> None:
    counts = embeddings_fields(ctx.dataset)
    total = f"{ctx.dataset.count():,} samples"
    fields = [field for field, count in counts.items() if count]
    if not fields:
        text = ", ".join(f"0 of {total} have '{field}'" for field in counts)
        label = f"This dataset has no field of vectors{': ' * bool(text)}{text}"
        inputs.view("no_field", types.Warning(label=label))
    chosen = ctx.params.get("embeddings_field")
    description = f"{counts[chosen]:,} of {total} have it" if counts.get(chosen) else None
    inputs.enum("embeddings_field", fields, required=True, label="Field", description=description)


def embeddings_fields(dataset: Any) -> dict[str, int]:
    """Returns how many samples have each field of vectors; some seconds old."""
    fields = dataset.get_field_schema(ftype=(fo.VectorField, fo.ArrayField), flat=True)
    found = {}
    for field in fields:
        stage = json.loads(json_util.dumps(fo.Exists(field)._serialize()))
        found[field] = Place((stage,)).count(dataset)
    return found


def _choose_collection(inputs: Any) -> None:
    names: list[str] = []
    with forms.problems(inputs):
        names = [c.name for c in silence.ask(inventory.collections) if c.dimension is not None]
    _suggest(
        inputs,
        "collection_name",
        names,
        label="Collection",
        description="Its primary key must hold the IDs of samples or labels",
    )


def _suggest(inputs: Any, name: str, suggestions: Any, **kwargs: Any) -> None:
    choices = types.AutocompleteView(allow_user_input=True)
    for one in suggestions:
        choices.add_choice(one, label=one)
    inputs.str(name, required=True, view=choices, **kwargs)


def _advanced(ctx: Any, inputs: Any, source: str) -> None:
    if source != "collection":
        inputs.enum(
            "index_type",
            _index_types(),
            label="Index type",
            description="By default, HNSW on a server and AUTOINDEX on the embedded engine",
        )
        inputs.list(
            "fields",
            types.String(),
            label="Metadata fields",
            description="Stored with each vector, so that Milvus can filter by them",
            view=_field_choices(ctx),
        )
        _scale(ctx, inputs)
    inputs.enum(
        "consistency_level",
        CONSISTENCY_LEVELS,
        default="Session",
        label="Consistency level",
        description="Which recent writes a search sees",
    )
    if source == "model":
        inputs.int(
            "batch_size", min=1, label="Batch size", description="Images that are embedded at once"
        )
        inputs.int(
            "num_workers",
            min=0,
            label="Workers",
            description="Processes that load images, for PyTorch models",
        )
        inputs.bool(
            "skip_failures",
            default=True,
            label="Skip failures",
            description="Leave out samples that can't be embedded, instead of failing",
        )
    if source != "collection":
        inputs.str(
            "collection_name",
            label="Collection",
            description="The name of the new collection; by default, a free one",
        )


def _index_types() -> Sequence[str]:
    try:
        return silence.ask(offered)
    except FiftyOneMilvusError:
        return _INDEX_TYPES


def _scale(ctx: Any, inputs: Any) -> None:
    """Adds shards, replicas and partitions, which only a server has."""
    inputs.int(
        "num_shards",
        min=1,
        max=MAX_SHARDS,
        label="Shards",
        description="On a server: channels for writes, which speed up large uploads",
    )
    inputs.int(
        "replicas",
        min=1,
        label="Replicas",
        description="On a cluster: query nodes that hold each row",
    )
    fields = ctx.params.get("fields") or []
    if fields:
        inputs.enum(
            "partition_key",
            fields,
            label="Partition key",
            description="On a server: the metadata field, of strings or integers, whose values "
            "have partitions of their own",
        )
    if ctx.params.get("partition_key"):
        inputs.int("num_partitions", min=1, max=MAX_PARTITIONS, label="Partitions")


def _field_choices(ctx: Any) -> Any:
    choices = types.AutocompleteView(allow_user_input=True, allow_duplicates=False)
    patches_field = ctx.params.get("patches_field")
    for path in ctx.dataset.get_field_schema(flat=True):
        with suppress(FiftyOneMilvusError, ValueError):
            resolve_columns(ctx.dataset, patches_field, [path])
            choices.add_choice(path, label=path)
    return choices
