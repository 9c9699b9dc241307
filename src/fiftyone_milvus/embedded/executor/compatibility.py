"""What the fast paths need of Milvus Lite."""

from __future__ import annotations

from fiftyone_milvus.embedded.internals import missing

_RPCS = (
    "DescribeIndex",
    "DropPartition",
    "Delete",
    "Flush",
    "GetCollectionStatistics",
    "Insert",
    "Query",
    "Search",
    "Upsert",
)
_ATTRIBUTES = {
    "engine.collection:Collection": (
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
        "_wal_data_schema",
    ),
    "storage.memtable:MemTable": (
        "_data_schema",
        "_delete_index",
        "_insert_batches",
        "_lock",
        "_pk_index",
    ),
    "storage.segment:Segment": (
        "file_path",
        "indexes",
        "partition",
        "pks",
        "seqs",
        "table",
    ),
    "storage.delta_index:DeltaIndex": ("_map",),
    "index.faiss_hnsw:FaissHnswIndex": ("_index", "metric", "num_vectors"),
    "index.faiss_ivf_flat:FaissIvfFlatIndex": ("_index", "metric", "num_vectors"),
    "db:MilvusLite": ("_collections",),
}
#: Nodes of filter expressions, and what they are made of besides their position.
_NODES = {
    "And": "operands",
    "Or": "operands",
    "Not": "operand",
    "CmpOp": "op, left, right",
    "InOp": "field, values, negate",
    "ArrayContainsOp": "value, values, mode",
    "ArrayLengthOp": "value",
    "FieldRef": "name",
    "ListLit": "elements",
    "StringLit": "value",
    "IntLit": "value",
    "FloatLit": "value",
    "BoolLit": "value",
}
_WRITE_DATA_FILE = "write_data_file(table, partition_dir, seq_min, seq_max)"

NEEDS = (
    *(f"adapter.grpc.servicer:MilvusServicer.{rpc}(self, request, context)" for rpc in _RPCS),
    *(f"{owner}#{name}" for owner, names in _ATTRIBUTES.items() for name in names),
    *(f"search.filter.ast:{node}({fields}, pos)" for node, fields in _NODES.items()),
    "adapter.grpc.errors:success_status_kwargs()",
    "adapter.grpc.errors:to_status_kwargs(exc)",
    "adapter.grpc.servicer:MilvusServicer._build_ids_proto(self, pks, col)",
    "adapter.grpc.servicer:MilvusServicer._database_name(self, request, context)",
    "adapter.grpc.servicer:MilvusServicer._get_collection(self, request, context)",
    "adapter.grpc.translators.records:_build_field_data(name, fschema, column)",
    "adapter.grpc.translators.records:_extract_column(fd, num_rows, default_timezone)",
    "constants:DATA_FILE_TEMPLATE",
    "constants:SEQ_FORMAT_WIDTH",
    f"engine.compaction:{_WRITE_DATA_FILE}",
    "engine.collection:Collection._apply(self, op)",
    "engine.collection:Collection._compile_filter(self, expr_str, timezone)",
    "engine.collection:Collection._effective_timezone(self, timezone)",
    "engine.collection:Collection._indexed_filter_plan(self, compiled_filter)",
    "engine.collection:Collection._require_loaded(self)",
    "engine.collection:Collection._should_flush(self) | engine.collection:MEMTABLE_SIZE_LIMIT",
    "engine.collection:Collection._trigger_flush(self)",
    "engine.collection:Collection.delete(self, pks, partition_name)",
    f"engine.flush:{_WRITE_DATA_FILE}",
    "engine.operation:InsertOp(partition, batch)",
    "engine.projection:build_projection_plan(output_fields, schema, api_kind)",
    "engine.projection:projection_output_fields(plan, schema, include_primary)",
    "exceptions:MilvusLiteError",
    "exceptions:SchemaValidationError",
    "search.filter:CompiledExpr(ast, fields, backend, source)",
    "search.filter:compile_filter(source, schema, default_timezone)",
    "search.filter:evaluate_mask(compiled, table)",
    "search.indexed_filter:evaluate_segment_filter(seg, compiled_filter, indexed_filter_plan)",
    f"storage.data_file:{_WRITE_DATA_FILE}",
    "storage.manifest:Manifest.version",
    "storage.memtable:MemTable.apply_insert(self, batch)",
    "storage.memtable:MemTable.flush(self, known_partitions)",
    "storage.memtable:MemTable.size(self)",
    "storage.paths:persisted_rel_path",
    "storage.segment:Segment.vector_data(self, field_name)",
    "engine.collection:Segment",
    "storage.segment:Segment.load(file_path, partition, pk_field, vector_field)",
)
"""See :func:`fiftyone_milvus.embedded.internals.missing`."""


def missing_internals() -> list[str]:
    """Names of what is not there, or not as expected; empty if all is."""
    return [need.partition("(")[0] for need in missing(NEEDS)]
