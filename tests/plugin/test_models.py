"""The zoo's models that the form of an index offers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.zoo as foz
import pytest

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import models, places
from tests.app.conftest import _forget_models as forget_models
from tests.app.digits import Scans
from tests.plugin.browser import Browser


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


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_models_and_fields_are_described(
    scans: Scans, digits: fo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model whose file is where nothing answers
    far = {
        "base_name": "far-away",
        "base_filename": "far-away.bin",
        "tags": ["embeddings"],
        "size_bytes": 12_000_000,
        "manager": {
            "type": "fiftyone.core.models.ModelManager",
            "config": {"url": "http://127.0.0.1:9/far-away.bin"},
        },
        "default_deployment_config_dict": {
            "type": "fiftyone_milvus.demo.model.DigitsModel",
            "config": {},
        },
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"models": [far]}))
    monkeypatch.setattr(fo.config, "model_zoo_manifest_paths", [str(path)])
    forget_models()
    models._read.cache_clear()
    models._describe.cache_clear()
    browser = Browser(digits)

    def said(**params: Any) -> str:
        return json.dumps(browser.inputs("create_index", **params))

    try:
        assert '"Installed."' in said(model=MODEL)
        assert "Takes text and images. Downloads 12 MB when it is first used." in said(
            model="far-away"
        )
        assert "Takes text and images. Needs torch, which is not installed" in said(
            model="clip-vit-base32-torch"
        )
        assert "Takes images, no text." in said(model="resnet50-imagenet-torch")
        assert "It embeds nothing" in said(model="faster-rcnn-resnet50-fpn-coco-torch")
        assert "The zoo has no model 'no-such-model'" in said(model="no-such-model")
        browser.run("create_index", brain_key="mine", model="far-away")
        (variant, text) = browser.said[-1]
        assert variant == "error"
        assert "Model 'far-away' could not be downloaded: 127.0.0.1 can't be reached" in text
        assert browser.form is not None
        assert browser.form["model"] == "far-away"
    finally:
        monkeypatch.undo()
        forget_models()
    assert digits.list_brain_runs() == []

    digits.add_sample_field("empty", fo.VectorField)
    digits.add_sample_field("vector", fo.VectorField)
    assert "0 of 60 samples have 'empty'" in said(source="field")
    browser.run("create_index", brain_key="mine", source="field", embeddings_field="empty")
    assert "Field 'empty' has no embeddings: 0 of 60 samples" in browser.said[-1][1]
    assert digits.list_brain_runs() == []
    digits.limit(20).set_values("vector", list(scans.vectors[:20]))
    places._counts.clear()
    assert "20 of 60 samples have it" in said(source="field", embeddings_field="vector")
    form = browser.inputs("create_index", source="field")
    assert form["embeddings_field"]["type"]["values"] == ["vector"]
