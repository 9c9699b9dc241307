from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo as foz
import numpy as np
import pytest
from PIL import Image

from fiftyone_milvus import embedded
from fiftyone_milvus.demo import digits, model, removal, tour
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from tests.support.trained import trained_once
from tests.support.warm import WARM

PROGRAM = str(Path(sys.executable).with_name("fiftyone-milvus"))


def run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs the demo as a user does; returns what it printed and where it wrote to."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as context:
        # What fiftyone-milvus finds by itself, but for a server of another test
        context.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI", str(embedded.default_path()))
        printed = run(PROGRAM, "demo", "--out", str(out))
        yield printed, out
        embedded.stop(embedded.default_path())
        for name in (digits.IMAGES, digits.PAGES):
            fo.delete_dataset(name)


@pytest.fixture
def image_index(demo: Any) -> MilvusSimilarityIndex:
    return fo.load_dataset(digits.IMAGES).load_brain_results("image_index")


def test_the_datasets_are_real_scans_and_pages_of_them(demo: Any) -> None:
    images = fo.load_dataset(digits.IMAGES)
    pages = fo.load_dataset(digits.PAGES)
    assert images.persistent
    assert pages.persistent
    assert len(images) == 1797
    assert images.count_sample_tags() == {"train": 1200, "test": 597}
    assert set(images.distinct("ground_truth.label")) == set(digits.WORDS)
    assert len(pages) == 120
    per_page = [len(labels) for labels in pages.values("ground_truth.detections.label")]
    assert min(per_page) >= 6
    assert max(per_page) <= 10

    everything, _ = digits.scans()
    page = pages.first()
    for detection in page.ground_truth.detections:
        scan = everything[detection.scan].ravel()
        ink = model._ink(tour._crop(Image.open(page.filepath), detection))
        assert np.corrcoef(scan, ink)[0, 1] > 0.6, "the page shows the scan that it says"


def test_both_indexes_are_complete_and_ours(demo: Any) -> None:
    for name, key, field, count in (
        (digits.IMAGES, "image_index", None, 1797),
        (digits.PAGES, "patch_index", "ground_truth", None),
    ):
        dataset = fo.load_dataset(name)
        index = dataset.load_brain_results(key)
        assert isinstance(index, MilvusSimilarityIndex)
        assert index.config.method == "milvus"
        assert index.config.patches_field == field
        assert index.config.supports_prompts
        assert index.config.deployment == "embedded"
        expected = count or dataset.count("ground_truth.detections")
        assert index.total_index_size == expected


def test_neighbors_of_digits_by_other_hands_are_the_same_digit(
    image_index: MilvusSimilarityIndex,
) -> None:
    test = fo.load_dataset(digits.IMAGES).match_tags("test")
    labels = dict(zip(*test.values(["id", "ground_truth.label"]), strict=True))
    image_index.use_view(test)
    embeddings, _, _ = image_index.get_embeddings(sample_ids=list(labels))
    found, _ = image_index._kneighbors(query=embeddings, k=11)
    hits = [
        labels[sample_id] == label
        for query, label, neighbors in zip(labels, labels.values(), found, strict=True)
        for sample_id in [neighbor for neighbor in neighbors if neighbor != query][:10]
    ]
    assert len(hits) == 5970
    assert np.mean(hits) > 0.95


@pytest.mark.parametrize("word", digits.WORDS)
def test_text_finds_the_digit_that_it_names(demo: Any, word: str) -> None:
    images = fo.load_dataset(digits.IMAGES)
    view = images.sort_by_similarity(f"a handwritten {word}", k=25, brain_key="image_index")
    assert view.values("ground_truth.label").count(word) >= 24


def test_distances_are_those_of_the_embeddings(image_index: MilvusSimilarityIndex) -> None:
    images = fo.load_dataset(digits.IMAGES)
    query = images.last().id
    view = images.sort_by_similarity(query, k=9, brain_key="image_index", dist_field="check")
    embeddings, _, _ = image_index.get_embeddings(sample_ids=view.values("id"))
    expected = 1 - embeddings @ embeddings[0]
    np.testing.assert_allclose(view.values("check"), expected, atol=1e-5)


def test_it_replaces_no_link(tmp_path: Path) -> None:
    refused_first: Any = None
    (tmp_path / "demo.py").symlink_to(tmp_path / "mine")
    with pytest.raises(InvalidInputError, match="is a link"):
        tour.run(refused_first, tmp_path)
    assert not (tmp_path / "mine").exists()


def test_it_leaves_a_picture_a_page_and_code(demo: Any) -> None:
    printed, out = demo
    assert {path.name for path in out.iterdir()} == {"neighbors.png", "neighbors.html", "demo.py"}
    with Image.open(out / "neighbors.png") as sheet:
        assert sheet.width > 1000
        assert sheet.height > 1000
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 50
    page = (out / "neighbors.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 7
    assert page.count("<figure>") == 7 * 8
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs nothing but itself"

    code = (out / "demo.py").read_text(encoding="utf-8")
    for line in code.splitlines():
        if line and not line.startswith("#"):
            assert line in printed
    assert "fiftyone app launch milvus-digit-pages" in printed
    assert "fiftyone-milvus demo --remove" in printed
    assert fo.load_dataset(digits.IMAGES).info[tour.OUT] == str(out)
    assert "Traceback" not in printed


def test_what_it_printed_runs_when_pasted(demo: Any) -> None:
    _, out = demo
    done = WARM.run((out / "demo.py").read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout
    assert "1797 images" in printed
    assert "searched 597 of 1797" in printed


def test_another_process_finds_the_index_and_the_model_by_their_names(demo: Any) -> None:
    code = f"""
import fiftyone as fo, sys
patches = fo.load_dataset("{digits.PAGES}").to_patches("ground_truth")
view = patches.sort_by_similarity("seven", k=5, brain_key="patch_index")
print(set(view.values("ground_truth.label")), "torch" in sys.modules)
"""
    done = WARM.run(code)
    assert "{'seven'} False" in done.stdout, done.stderr


def test_the_model_is_trained_again_where_its_weights_are_missing(demo: Any, common: Path) -> None:
    folder = Path(fo.config.model_zoo_dir) / "fiftyone-milvus"
    before = foz.load_zoo_model(model.NAME, cache=False).embed_prompt("seven")
    (folder / "digits-prompt.npz").unlink()
    # By another process than the demo's: this one, or one of other tests
    with trained_once(common):
        again = foz.load_zoo_model(model.NAME, cache=False).embed_prompt("seven")
    np.testing.assert_allclose(before, again, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a handwritten seven", [7]),
        ("7", [7]),
        ("Two SIXES, please", [2, 6]),
        ("threes and 4", [3, 4]),
        ("42", [4, 2]),
    ],
)
def test_prompts_name_digits(demo: Any, text: str, named: list[int]) -> None:
    embed = foz.load_zoo_model(model.NAME).embed_prompt
    embedding = embed(text)
    assert embedding.shape == (73,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    expected = np.mean([embed(digits.WORDS[digit]) for digit in named], axis=0)
    np.testing.assert_allclose(embedding, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_prompt_without_a_digit_is_told(demo: Any) -> None:
    with pytest.raises(InvalidInputError, match="'a cat' names no digit"):
        foz.load_zoo_model(model.NAME).embed_prompt("a cat")


@pytest.mark.parametrize("size", [(8, 8), (96, 96), (31, 200)])
def test_the_model_takes_images_of_any_size(demo: Any, size: tuple[int, int]) -> None:
    digits_model = foz.load_zoo_model(model.NAME)
    everything, labels = digits.scans()
    image = np.asarray(digits.draw(everything[0]).resize(size))
    assert digits_model.embed(image).shape == (73,)
    blank = np.full((*size, 3), 200, np.uint8)
    assert np.isfinite(digits_model.embed(blank)).all()
    upright = np.asarray(digits.draw(everything[0]))
    assert digits_model.predict(upright).label == digits.WORDS[labels[0]]


def test_a_prompt_may_have_quotes() -> None:
    prompt = 'the "seven" \\'
    subject = tour.Subject("images", "pages", "model", prompt, 'a "three"', "images")
    for step in tour.steps(subject):
        compile(step.code, step.title, "exec")
        if step.title == "Search by text":
            assert eval(str(step.query)) == prompt


def test_what_it_made_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_path: Path
) -> None:
    monkeypatch.setattr(fo.config, "default_dataset_dir", str(tmp_path / "fiftyone"))
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path / "zoo"))
    monkeypatch.setattr(digits, "IMAGES", "milvus-digits-few")
    monkeypatch.setattr(digits, "PAGES", "milvus-digit-pages-few")
    monkeypatch.setattr(digits, "_NUM_PAGES", 2)
    scans = digits.scans()
    monkeypatch.setattr(digits, "scans", lambda: (scans[0][:20], scans[1][:20]))
    root = Path(fo.config.default_dataset_dir)
    images = digits.build_images(root / digits.IMAGES)
    digits.build_pages(root / digits.PAGES)
    model.folder().mkdir(parents=True)
    for name in model.FILES:
        (model.folder() / name).write_text("")
    out = tmp_path / "out"
    out.mkdir()
    for name in (*tour.FILES, "mine.txt"):
        (out / name).write_text("mine")
    images.info[tour.OUT] = str(out)
    images.save()
    index = fob.compute_similarity(
        images,
        embeddings=np.eye(20, dtype=np.float32),
        brain_key="image_index",
        backend="milvus",
        uri=str(embedded_path),
    )
    index.map()
    client, collection = index.client, index.config.collection_name

    made = removal.find("digits", None)
    shown = str(made)
    assert all(word in shown for word in (digits.IMAGES, digits.PAGES, str(out), "zoo"))
    removal.remove(made)
    assert not {digits.IMAGES, digits.PAGES} & set(fo.list_datasets())
    assert collection not in client.list_collections()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.txt"]
    assert not removal.find("digits", None)

    theirs = fo.Dataset("milvus-demo-theirs")
    try:
        (root / "milvus-demo").mkdir(parents=True)
        (root / "milvus-demo" / "demo.py").write_text("")
        made = removal.find(theirs.name, None)
        assert made.datasets == ()
        removal.remove(made)
        assert not (root / "milvus-demo").exists()
        assert theirs.name in fo.list_datasets()
    finally:
        theirs.delete()


def test_without_internet_the_zoo_is_one_line_of_error(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere)
    done = WARM.run(
        "import sys; from fiftyone_milvus.cli import main; sys.exit(main())",
        *("demo", "--dataset", "quickstart", "--out", str(tmp_path)),
        env={**os.environ, **proxies},
    )
    error = done.stderr
    assert done.returncode == 1, done.stdout + error
    assert error.splitlines()[-1].startswith("Error: Can't load 'quickstart' from FiftyOne's zoo")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
