"""The zoo's models that the form of an index offers."""

from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import fiftyone.zoo as foz
import pytest

from fiftyone_milvus.plugin import models


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_the_zoo_is_read_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    monkeypatch.setattr(models.time, "monotonic", lambda: now)
    read, calls = foz.list_zoo_models, []

    def spy(**kwargs: str) -> list[str]:
        calls.append(kwargs)
        return read(**kwargs)

    monkeypatch.setattr(foz, "list_zoo_models", spy)
    now = 0.0
    embeddings, others = models.names()
    assert "clip-vit-base32-torch" in embeddings
    assert embeddings == read(tags="embeddings")
    assert sorted(embeddings + others) == read()
    now = 29.0
    assert models.names() == (embeddings, others)
    assert len(calls) == 2

    source = tmp_path / "source"
    source.mkdir()
    entry = {"base_name": "mine", "base_filename": "mine.bin", "tags": ["embeddings"]}
    (source / "manifest.json").write_text(json.dumps({"name": "source", "models": [entry]}))
    assert "mine" in models.names()[0]
    entry["base_name"] = "theirs"
    (source / "manifest.json").write_text(json.dumps({"name": "source", "models": [entry]}))
    now = 31.0
    assert "theirs" in models.names()[0]
