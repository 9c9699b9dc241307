"""What we use of others that they did not promise: each test fails where a new version moved it."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import fiftyone_milvus
from fiftyone_milvus.embedded import internals
from fiftyone_milvus.embedded.executor import compatibility
from fiftyone_milvus.embedded.storage import durability

EMBEDDED = Path(fiftyone_milvus.__file__).parent / "embedded"
STORAGE = sorted({need for needs in durability.NEEDS.values() for need in needs})


def parameters(call: Any) -> list[str]:
    return list(inspect.signature(call).parameters)


# -- Milvus Lite ------------------------------------------------------------------------------


@pytest.mark.parametrize("need", compatibility.NEEDS)
def test_fast_paths(need: str) -> None:
    assert not list(internals.missing([need]))


@pytest.mark.parametrize("need", STORAGE)
def test_protections(need: str) -> None:
    assert not list(internals.missing([need]))


@pytest.mark.parametrize(
    "name",
    [
        "adapter.grpc:MilvusServicer",
        "db:MilvusLite.get_collection(self, name, database_name)",
        "db:MilvusLite#_collections",
        "engine.collection:Collection._wait_for_bg(self, timeout)",
        "engine.collection:Collection.close(self)",
        "db:MilvusLite.create_collection(self, name, schema, properties, database_name)",
        "db:MilvusLite.drop_collection(self, name, database_name)",
        "db:MilvusLite.alter_collection_properties"
        "(self, name, properties, delete_keys, database_name)",
        "db:MilvusLite.resolve_collection_name(self, name, database_name)",
        "db:DEFAULT_DATABASE_NAME",
        "exceptions:DataDirLockedError",
        "exceptions:MilvusLiteError",
        "db:MilvusLite._aliases_path(self, database_name)",
        "db:MilvusLite._collections_root(self, database_name)",
        "db:MilvusLite._database_properties_path(self, database_name)",
        "db:MilvusLite._database_staging_root(self)",
        "db:MilvusLite._load_aliases(self, database_name)",
        "db:MilvusLite._load_database_properties(self, database_name)",
        "db:MilvusLite._persist_database_properties(self, database_name, properties)",
        "db:MilvusLite._save_aliases(self, database_name)",
        "db:MilvusLite.has_collection(self, name, database_name)",
        "db:MilvusLite.list_collections(self, database_name)",
        "adapter.grpc:MilvusServicer.ShowCollections(self, request, context)",
        "schema.arrow_builder:build_delta_schema(schema)",
        "schema.arrow_builder:build_wal_data_schema(schema)",
        "schema.arrow_builder:build_wal_delta_schema(schema)",
        "schema.persistence:load_schema(path)",
        "storage.delta_file:write_delta_file(table, partition_dir, seq_min, seq_max)",
        "server_manager:ServerManager#_servers",
        "server_manager:ServerManager.release_server(self, path)",
        "server_manager:server_manager_instance",
    ],
)
def test_the_rest_of_milvus_lite(name: str) -> None:
    assert not list(internals.missing([name]))


@pytest.mark.parametrize("folder", ["executor", "storage"])
def test_no_private_name_is_used_without_being_checked(folder: str) -> None:
    listed = set(re.findall(r"_[a-z]\w*", " ".join([*compatibility.NEEDS, *STORAGE])))
    used = {
        name
        for file in (EMBEDDED / folder).glob("*.py")
        for name in re.findall(r"\b(?:col|memtable|wal|manifest)\.(_\w+)", file.read_text("utf-8"))
    }
    assert used
    assert used <= listed


@pytest.mark.parametrize(
    "need",
    [
        "no.such:module",
        "db:NoSuch",
        "db:MilvusLite.get_collection(self)",
        "db:MilvusLite#_nothing",
        "db:MilvusLite.create_database uses unlink",
    ],
)
def test_what_is_missing_is_named(need: str) -> None:
    assert list(internals.missing([need, "db:MilvusLite"])) == [need]
    assert not list(internals.missing([f"{need} | db:MilvusLite"]))


# -- pymilvus ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["common_pb2", "milvus_pb2", "milvus_pb2_grpc", "schema_pb2"])
def test_pymilvus_messages(name: str) -> None:
    importlib.import_module(f"pymilvus.grpc_gen.{name}")


def test_pymilvus_handler_on_rpc_error(engine_client: Any) -> None:
    assert hasattr(engine_client, "_handler")
    assert hasattr(engine_client._handler, "_on_rpc_error")


@pytest.mark.parametrize("name", ["iterator", "reduce_stop_for_best"])
def test_pymilvus_query_passes(name: str) -> None:
    from pymilvus import Prepare

    request = Prepare.query_request("rows", "pk > ''", ["pk"], None, **{name: "1"})
    assert name in {pair.key for pair in request.query_params}


def test_pymilvus_load_async() -> None:
    from pymilvus.client.grpc_handler import GrpcHandler

    assert "_async" in inspect.getsource(GrpcHandler.load_collection)


def test_pymilvus_answer_extra(engine_client: Any) -> None:
    from tests.embedded import child

    child.create(engine_client)
    engine_client.insert("rows", child.rows(range(3)))
    answer = engine_client.query("rows", 'pk > ""', output_fields=["pk"], iterator="True", limit=2)
    assert isinstance(answer.extra, dict)
    assert [row["pk"] for row in answer] == ["0", "1"]


@pytest.mark.parametrize("name", ["Collection", "connections", "utility", "DefaultConfig"])
def test_pymilvus_orm(name: str) -> None:
    assert hasattr(importlib.import_module("pymilvus"), name)


# -- FiftyOne ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_parse_query", ["self", "query"]),
        ("_apply_view", ["self"]),
        ("_kneighbors", ["self", "query", "k", "reverse", "aggregation", "return_dists"]),
        ("use_view", ["self", "samples", "allow_missing", "warn_missing"]),
    ],
)
def test_fiftyone_similarity_index(name: str, expected: list[str]) -> None:
    from fiftyone.brain.similarity import SimilarityIndex

    assert parameters(getattr(SimilarityIndex, name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("filter_ids", {"samples", "index_sample_ids", "index_label_ids", "patches_field"}),
        ("parse_data_field", {"samples", "data_field", "patches_field"}),
        (
            "add_embeddings",
            {"samples", "embeddings", "sample_ids", "label_ids", "embeddings_field"},
        ),
        ("get_embeddings", {"samples", "embeddings", "embeddings_field", "patches_field"}),
    ],
)
def test_fiftyone_brain_utils(name: str, expected: set[str]) -> None:
    import fiftyone.brain.internal.core.utils as utils

    assert expected <= set(parameters(getattr(utils, name)))


def test_fiftyone_run_documents() -> None:
    from fiftyone.core.brain import BrainMethod
    from fiftyone.core.odm.runs import RunDocument

    assert parameters(BrainMethod._get_run_doc)[:2] == ["samples", "key"]
    assert BrainMethod._results_cache_field()
    assert RunDocument._get_collection_name() == "runs"
    assert {"config", "results", "timestamp", "version", "view_stages"} <= set(RunDocument._fields)
    assert type(RunDocument._fields["results"]).__name__ == "FileField"


def test_fiftyone_visualizations() -> None:
    import fiftyone as fo
    import fiftyone.brain.visualization as fbv

    expected = ["self", "samples", "config", "brain_key", "points", "sample_ids", "label_ids"]
    assert parameters(fbv.VisualizationResults)[: len(expected) - 1] == expected[1:]
    for cls, method in (
        (fbv.PCAVisualizationConfig, "pca"),
        (fbv.UMAPVisualizationConfig, "umap"),
    ):
        # What is needed to add to a map is stored with the config, as one more parameter
        config = cls(similarity_index="similar", patches_field=None, seed=3, num_dims=2)
        config.milvus_map = {"basis": "text"}
        stored = config.serialize()
        assert (stored["method"], stored["type"]) == (method, "visualization")
        again = fbv.VisualizationConfig.from_dict(dict(stored))
        assert type(again) is cls
        assert again.milvus_map == {"basis": "text"}
    assert fo.Detections._LABEL_LIST_FIELD == "detections"


def test_fiftyone_writes() -> None:
    import fiftyone as fo
    from fiftyone.core.dataset import Dataset

    assert isinstance(Dataset._sample_collection, property)
    assert parameters(fo.Sample._reload_docs)[:2] == ["collection_name", "sample_ids"]


def test_fiftyone_stages_as_the_app_sends_them() -> None:
    from fiftyone.core import stages

    stage = stages.Select(["0" * 24], ordered=True)._serialize()
    assert stage["_cls"] == "fiftyone.core.stages.Select"
    assert {"sample_ids": ["0" * 24], "ordered": True}.items() <= dict(stage["kwargs"]).items()
    assert stages.SortBySimilarity.__module__ == "fiftyone.core.stages"


def test_fiftyone_log_texts() -> None:
    from fiftyone.core import models

    assert models.logger.name == "fiftyone.core.models"
    source = inspect.getsource(models)
    assert re.search(r'logger\.warning\(\s*"Sample: %s\\nError: %s', source)
    assert re.search(r'logger\.warning\(\s*"Batch: %s - %s\\nError: %s', source)


def test_fiftyone_request_params() -> None:
    from fiftyone.operators.executor import ExecutionContext

    assert hasattr(ExecutionContext({"operator_uri": "x"}), "request_params")


def test_fiftyone_builtin_backends() -> None:
    from fiftyone.brain.config import BrainConfig

    assert "milvus" in BrainConfig._BUILTIN_SIMILARITY_BACKENDS


def test_fiftyone_says_which_config_is_a_stored_one() -> None:
    from fiftyone.core.brain import BrainMethodConfig

    assert BrainMethodConfig._virtual_attributes() == ["cls", "type", "method"]
    stored = fiftyone_milvus.MilvusSimilarityConfig().serialize()
    assert stored["cls"] == "fiftyone_milvus.backend.MilvusSimilarityConfig"
    BrainMethodConfig.from_dict({**stored, "of_a_later_version": 1})


def test_pymilvus_keeps_an_address_for_each_alias() -> None:
    from pymilvus import connections

    source = inspect.getsource(type(connections).connect)
    assert '.get("address") != addr' in source
    assert isinstance(connections._alias_config["default"], dict)
