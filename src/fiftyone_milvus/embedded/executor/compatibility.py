"""Whether the installed Milvus Lite has the internals that the fast paths build on."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

_COLLECTION = (
    "_auto_id",
    "_delta_index",
    "_index_specs",
    "_ingestion_chain",
    "_load_state",
    "_maintenance_lock",
    "_manifest",
    "_memtable",
    "_next_seq",
    "_partition_key_field",
    "_pk_name",
    "_schema",
    "_segment_cache",
    "_vector_name",
    "_wal",
    "_wal_data_schema",
    "_wal_delta_schema",
)
_MEMTABLE = ("_data_schema", "_delete_index", "_insert_batches", "_lock", "_pk_index")
#: Nodes of filter expressions, and what is read of each beside its position.
_NODES = {
    "And": ("operands",),
    "Or": ("operands",),
    "Not": ("operand",),
    "CmpOp": ("op", "left", "right"),
    "InOp": ("field", "values", "negate"),
    "ArrayContainsOp": ("value", "values", "mode"),
    "ArrayLengthOp": ("value",),
    "FieldRef": ("name",),
    "ListLit": ("elements",),
    "StringLit": ("value",),
    "IntLit": ("value",),
    "FloatLit": ("value",),
    "BoolLit": ("value",),
}
_SEGMENT = ("file_path", "indexes", "partition", "pk_to_row", "pks", "seqs", "table")


def missing_internals() -> list[str]:
    """Names of what is not there, or not as expected; empty if all is."""
    try:
        return list(_check())
    except (ImportError, AttributeError) as exc:
        return [str(exc)]


def _check() -> Iterable[str]:
    from milvus_lite import db
    from milvus_lite.adapter.grpc import servicer
    from milvus_lite.adapter.grpc.translators import records
    from milvus_lite.engine import collection, compaction, flush, operation, projection
    from milvus_lite.index import factory
    from milvus_lite.index.faiss_hnsw import FaissHnswIndex
    from milvus_lite.index.faiss_ivf_flat import FaissIvfFlatIndex
    from milvus_lite.index.scalar import inverted
    from milvus_lite.search import filter as filters
    from milvus_lite.search import indexed_filter
    from milvus_lite.search.filter import ast
    from milvus_lite.storage import data_file, delta_index, manifest, memtable, segment, wal

    Collection, MemTable, Segment = collection.Collection, memtable.MemTable, segment.Segment
    yield from _unset(Collection, _COLLECTION)
    yield from _unset(MemTable, _MEMTABLE)
    yield from _unset(Segment, _SEGMENT)
    yield from _unset(delta_index.DeltaIndex, ("_map",))
    yield from _unset(manifest.Manifest, ("_partitions", "_version"))
    yield from _unset(wal.WAL, ("_data_sink", "_delta_sink", "wal_dir"))
    for index in (FaissHnswIndex, FaissIvfFlatIndex):
        yield from _unset(index, ("_index", "metric", "num_vectors"))
    expected: list[tuple[Any, str, tuple[str, ...]]] = [
        (servicer.MilvusServicer, "_get_collection", ("self", "request", "context")),
        (servicer.MilvusServicer, "_build_ids_proto", ("self", "pks", "col")),
        *(
            (servicer.MilvusServicer, rpc, ("self", "request", "context"))
            for rpc in ("Insert", "Upsert", "Delete", "Query", "Search", "Flush", "DropPartition")
        ),
        (Collection, "_apply", ("self", "op")),
        (Collection, "_build_or_load_segment_index", ("self", "seg", "spec")),
        (Collection, "_index_dir", ("self", "partition")),
        (Collection, "_trigger_flush", ("self",)),
        (Collection, "_compile_filter", ("self", "expr_str", "timezone")),
        (Collection, "_effective_timezone", ("self", "timezone")),
        (Collection, "_indexed_filter_plan", ("self", "compiled_filter")),
        (Collection, "_require_loaded", ("self",)),
        (Collection, "delete", ("self", "pks", "partition_name")),
        (MemTable, "flush", ("self", "known_partitions")),
        (MemTable, "size", ("self",)),
        (MemTable, "apply_insert", ("self", "batch")),
        (segment, "read_data_file", ("path",)),
        (Segment, "vector_data", ("self", "field_name")),
        (operation, "InsertOp", ("partition", "batch")),
        (records, "_build_field_data", ("name", "fschema", "column")),
        (records, "_extract_column", ("fd", "num_rows", "default_timezone")),
        (projection, "build_projection_plan", ("output_fields", "schema", "api_kind")),
        (projection, "projection_output_fields", ("plan", "schema", "include_primary")),
        (filters, "compile_filter", ("source", "schema", "default_timezone")),
        (filters, "evaluate_mask", ("compiled", "table")),
        (filters, "CompiledExpr", ("ast", "fields", "backend", "source")),
        *((ast, node, (*fields, "pos")) for node, fields in _NODES.items()),
        (factory, "build_index_from_spec", ("spec", "vectors")),
        (inverted.ScalarInvertedIndex, "save", ("self", "path")),
        (wal, "_cleanup_old_wals", ("wal_dir", "up_to_number")),
        (
            compaction.CompactionManager,
            "_compact_files",
            ("self", "partition", "partition_dir", "files_to_compact", "manifest", "delta_index"),
        ),
        (
            indexed_filter,
            "evaluate_segment_filter",
            ("seg", "compiled_filter", "indexed_filter_plan"),
        ),
        *(
            (module, "write_data_file", ("table", "partition_dir", "seq_min", "seq_max"))
            for module in (data_file, flush, compaction)
        ),
    ]
    for owner, name, parameters in expected:
        found = getattr(owner, name, None)
        if found is None or tuple(inspect.signature(found).parameters) != parameters:
            yield f"{getattr(owner, '__name__', owner)}.{name}"
    if not isinstance(getattr(manifest.Manifest, "version", None), property):
        yield "Manifest.version"
    if not issubclass(db.Collection, Collection):
        yield "db.Collection"
    if not (hasattr(Collection, "_should_flush") or hasattr(collection, "MEMTABLE_SIZE_LIMIT")):
        yield "Collection._should_flush"


def _unset(cls: Any, names: Iterable[str]) -> Iterable[str]:
    # The names that the constructor stores to: attributes exist only on instances.
    used = cls.__init__.__code__.co_names
    return (f"{cls.__name__}.{name}" for name in names if name not in used)
