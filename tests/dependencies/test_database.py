"""What a database removes is a collection's remains, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema

from fiftyone_milvus.embedded.database import Database


def schema() -> Any:
    return CollectionSchema(
        fields=[
            FieldSchema(name="pk", dtype=DataType.VARCHAR, is_primary=True),
            FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=2),
        ]
    )


@pytest.mark.parametrize("name", ["", ".", "..", "../rows", "a/b", "/", "./"])
def test_an_invalid_name_removes_nothing(tmp_path: Path, name: str) -> None:
    with Database(str(tmp_path / "data.db")) as database:
        database.create_collection("rows", schema())
        before = sorted(path for path in tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="name"):
            database.create_collection(name, schema())
        assert sorted(path for path in tmp_path.rglob("*")) == before
        assert database.log_bytes("default", name) == 0


@pytest.mark.parametrize("name", ["rows", "..rows", "r.o.w.s", "ähnlich"])
def test_remains_are_removed(tmp_path: Path, name: str) -> None:
    remains = tmp_path / "data.db" / "collections" / name / "wal"
    remains.mkdir(parents=True)
    (remains / "log").write_text("of an attempt without room")
    with Database(str(tmp_path / "data.db")) as database:
        assert database.log_bytes("default", name) == 26
        database.create_collection(name, schema())
        assert not (remains / "log").exists()
