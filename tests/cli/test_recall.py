"""Indexes are measured, tuned and compared from the command line, on each engine."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from PIL import Image

from tests.app.digits import Scans
from tests.cli.support import enter, read, refused
from tests.conftest import Engine

ROWS = 1_500  # a server builds no index for fewer than 1,024


@pytest.fixture
def vectors(configured: Engine) -> fo.Dataset:
    dataset = fo.Dataset(f"cli-vectors-{configured.name}")
    samples = [fo.Sample(filepath=f"{i}.png") for i in range(ROWS)]
    dataset.add_samples(samples, progress=False)
    data = np.random.default_rng(51).standard_normal((ROWS, 8), dtype=np.float32)
    index = fob.compute_similarity(
        dataset,
        backend="milvus",
        brain_key="vectors",
        embeddings=data,
        metric="euclidean",
        index_type="IVF_FLAT",
        index_params={"nlist": 64},
        search_params={"nprobe": 1},
    )
    yield dataset
    index.cleanup()
    dataset.delete()


def test_measured_and_tuned_and_compared(vectors: fo.Dataset, tmp_path: Path) -> None:
    name = vectors.name
    first = read("tune", name, "vectors", "--recall", "0.9", "--queries", "100")
    assert (first["reached"], first["stored"]) == (True, True)
    assert first["recall"] >= 0.9
    assert first["params"]["nprobe"] > 1
    # What was found is what is used from then on
    found = read("evaluate", name, "vectors", "--queries", "300", "-k", "10")
    assert (found["queries"], found["k"]) == (300, 10)
    assert 0.85 <= found["recall"] < 1
    assert found["search_params"] == first["params"]
    shown, _ = enter("evaluate", name, "vectors", "--queries", "50")
    assert shown.startswith("recall@10 0.")

    plot = tmp_path / "types.png"
    # Lists that no parameter reaches
    compared = read(
        "compare", name, "vectors", "--type", "FLAT", "--type", "GPU_CAGRA", "--plot", str(plot)
    )
    flat, gpu = compared["rows"]
    assert (flat["index_type"], flat["recall"], flat["error"]) == ("FLAT", 1.0, None)
    assert flat["build_seconds"] > 0
    assert gpu["error"]
    assert min(Image.open(plot).size) > 300


def test_what_can_not_be_measured(scans: Scans, digits: fo.Dataset) -> None:
    read("create", digits.name, "similar", "--model", "digits-prompt")
    assert "Invalid recall 2.0" in refused("tune", digits.name, "similar", "--recall", "2")
    assert "TREE" in refused("compare", digits.name, "similar", "--type", "TREE")
    enter("delete", digits.name, "similar", "--yes")
