"""Searches, near-duplicates and unique samples, by operators, from Python."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.operators.executor import ExecutionContext
from PIL import Image

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import NAME, preview, queries
from fiftyone_milvus.plugin.operators.find import FindDuplicates, FindUnique
from tests.app.digits import KEY, Scans
from tests.plugin.conftest import Run
from tests.plugin.test_manage import refuses
from tests.support import oracle
from tests.support.once import one_engine

COUNT = 60


@pytest.fixture
def indexed(scans: Scans, digits: fo.Dataset, engine: Any) -> fo.Dataset:
    """Sixty digits and their index."""
    fob.compute_similarity(
        digits,
        backend="milvus",
        brain_key=KEY,
        embeddings=scans.vectors[:COUNT],
        model=MODEL,
        metric="cosine",
        fields=["ground_truth.label"],
        **engine.kwargs,
    )
    return digits


@pytest.fixture
def patched(scans: Scans, digits: fo.Dataset, engine: Any) -> fo.Dataset:
    """Twenty samples with two patches each; a patch's ``number`` is that of its vector."""
    digits.delete_samples(digits.skip(20))
    for i, sample in enumerate(digits):
        boxes = ([0, 0, 1, 1], [0.1, 0.1, 0.8, 0.8])
        detections = [
            fo.Detection(label="digit", bounding_box=box, number=2 * i + j)
            for j, box in enumerate(boxes)
        ]
        sample["objects"] = fo.Detections(detections=detections)
        sample.save()
    embeddings = {s.id: scans.vectors[2 * i : 2 * i + 2] for i, s in enumerate(digits)}
    fob.compute_similarity(
        digits,
        backend="milvus",
        brain_key=KEY,
        embeddings=embeddings,
        patches_field="objects",
        metric="cosine",
        **engine.kwargs,
    )
    return digits


def truth(
    scans: Scans, ids: list[str], query: np.ndarray, among: list[int] | None = None
) -> dict[str, float]:
    distances = oracle.distances("cosine", query, scans.vectors[: len(ids)])[0]
    keep = range(len(ids)) if among is None else among
    return {ids[i]: distances[i] for i in keep}


def check(result: Mapping[str, Any], true: dict[str, float], k: int, **kwargs: Any) -> None:
    oracle.check_ranking(result["ids"], true, k, reported=result["distances"], **kwargs)


def test_by_selection(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    ids, vectors = indexed.values("id"), scans.vectors
    one = run("search", indexed, ctx={"selected": [ids[3]]}, brain_key=KEY, k=10)
    check(one, truth(scans, ids, vectors[3]), 10)
    assert one["sample_ids"] == one["ids"]

    ctx = {"selected": [ids[3], ids[5]]}
    check(
        run("search", indexed, ctx=ctx, brain_key=KEY),
        truth(scans, ids, vectors[[3, 5]].mean(axis=0)),
        25,
    )
    ctx = {
        "selected_samples": [
            {"id": ids[3], "type": "default"},
            {"id": ids[5], "type": "default"},
            {"id": ids[9], "type": "alt"},
        ]
    }
    query = 2 * vectors[[3, 5]].mean(axis=0) - vectors[9]
    check(run("search", indexed, ctx=ctx, brain_key=KEY, k=7), truth(scans, ids, query), 7)


def test_by_text_and_by_image(scans: Scans, indexed: fo.Dataset, run: Run, tmp_path: Path) -> None:
    ids = indexed.values("id")
    true = truth(scans, ids, scans.model.embed_prompt("a handwritten seven"))
    found = run("search", indexed, brain_key=KEY, text="a handwritten seven", k=9)
    check(found, true, 9)

    content = base64.b64encode(Path(scans.paths[70]).read_bytes()).decode()
    image = {"name": "70.png", "content": content}
    true = truth(scans, ids, scans.model.embed(np.asarray(Image.open(scans.paths[70]))))
    check(run("search", indexed, brain_key=KEY, query="image", image=image, k=9), true, 9)


@one_engine
def test_a_path_that_is_typed_is_text(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    # Whoever uses the App may not read the files of the machine that it runs on
    path = scans.paths[70]
    true = truth(scans, indexed.values("id"), scans.model.embed_prompt(path))
    check(run("search", indexed, brain_key=KEY, text=path, k=9), true, 9)


def test_what_restricts_a_search(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    ids, labels = indexed.values(["id", "ground_truth.label"])
    text, query = "a three", scans.model.embed_prompt("a three")
    true = truth(scans, ids, query)

    limit = sorted(true.values())[7]
    found = run("search", indexed, brain_key=KEY, text=text, max_distance=limit + 1e-6)
    check(found, {i: d for i, d in true.items() if d <= limit + 1e-6}, None)

    chosen = labels[0]
    index = indexed.load_brain_results(KEY)
    column = next(f for f in index._collection.layout.fields.milvus_fields if "label" in f)
    found = run("search", indexed, brain_key=KEY, text=text, filter=f'{column} == "{chosen}"')
    check(found, {i: true[i] for i, label in zip(ids, labels, strict=True) if label == chosen}, 25)

    view = indexed.match(F("number") >= 30)
    ctx = {"view": view}
    found = run("search", indexed, ctx=ctx, brain_key=KEY, text=text, k=5)
    check(found, truth(scans, ids, query, [*range(30, COUNT)]), 5)
    found = run("search", indexed, ctx=ctx, brain_key=KEY, text=text, target="dataset", k=5)
    check(found, true, 5)

    found = run("search", indexed, brain_key=KEY, text=text, reverse=True, k=5)
    check(found, true, 5, reverse=True)

    found = run("search", indexed, brain_key=KEY, text=text, k=5, dist_field="far")
    indexed.reload()
    stored = dict(zip(*indexed.values(["id", "far"]), strict=True))
    assert {i for i, d in stored.items() if d is not None} == {*found["ids"]}
    assert [stored[i] for i in found["ids"]] == pytest.approx(found["distances"])


def test_patches(scans: Scans, patched: fo.Dataset, run: Run) -> None:
    ids = patched.values("objects.detections.id", unwind=True)
    samples = patched.values("id")
    label = {"label_id": ids[4], "sample_id": samples[2], "field": "objects"}
    found = run("search", patched, ctx={"selected_labels": [label]}, brain_key=KEY, k=8)
    true = truth(scans, ids, scans.vectors[4])
    check(found, true, 8)
    assert found["sample_ids"] == [samples[ids.index(i) // 2] for i in found["ids"]]

    ctx = {"selected": [ids[4]], "view": patched.to_patches("objects")}
    check(run("search", patched, ctx=ctx, brain_key=KEY, k=8), true, 8)

    ctx = {"selected_labels": [label]}
    found = run("search", patched, ctx=ctx, brain_key=KEY, k=8, best_only=True)
    best = {}
    for _id in sorted(true, key=true.__getitem__):
        best.setdefault(ids.index(_id) // 2, _id)
    check(found, {i: true[i] for i in best.values()}, 8)


@one_engine
def test_bad_searches(
    scans: Scans, indexed: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = indexed.values("id")
    selected = {"ctx": {"selected": [ids[0]]}}
    negatives = {"ctx": {"selected_samples": [{"id": ids[0], "type": "alt"}]}}
    label = {"label_id": ids[0], "sample_id": ids[0], "field": "ground_truth"}
    # A label stands for its sample
    labels = {"selected_labels": [label]}
    assert run("search", indexed, ctx=labels, brain_key=KEY)["ids"][0] == ids[0]
    for expected, kwargs in {
        "Nothing is selected": {},
        "Only negatives": negatives,
        "Unknown query": {**selected, "query": "smell"},
        "Give a text": {"query": "text"},
        "Upload an image": {"query": "image"},
        "read as an image": {"query": "image", "image": {"content": "YWJj", "name": "x"}},
        "Invalid k": {**selected, "k": 0},
        "Invalid max_distance": {**selected, "max_distance": "near"},
        "nonsense": {**selected, "filter": "nonsense ==="},
        "Invalid dist_field": {**selected, "dist_field": "a b"},
        "Unknown target": {**selected, "target": "all"},
        "group_by": {**selected, "best_only": True},
        "'none'": {"brain_key": "none"},
    }.items():
        assert expected in refuses(run, "search", indexed, **{"brain_key": KEY, **kwargs})
    monkeypatch.setattr(queries, "MAX_IMAGE_BYTES", 0)
    image = {"content": "YWJjZGVmZ2g=", "name": "large.png"}
    text = refuses(run, "search", indexed, brain_key=KEY, query="image", image=image)
    assert "'large.png' is larger" in text


@one_engine
def test_text_needs_a_model(scans: Scans, patched: fo.Dataset, run: Run) -> None:
    assert "can't be searched by text" in refuses(run, "search", patched, brain_key=KEY, text="x")
    image = {"content": "YWJj", "name": "x"}
    assert "no model" in refuses(run, "search", patched, brain_key=KEY, query="image", image=image)


@one_engine
def test_an_image_that_would_fill_the_memory_is_refused(indexed: fo.Dataset, run: Run) -> None:
    stream = io.BytesIO()
    Image.new("1", (8, 8)).save(stream, "PNG")
    # What its header says: width and height stand behind the signature and the chunk's name
    header = b"IHDR" + struct.pack(">II", 40_000, 40_000) + stream.getvalue()[24:29]
    content = stream.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header))
    content += stream.getvalue()[33:]
    image = {"name": "huge.png", "content": base64.b64encode(content).decode()}
    text = refuses(run, "search", indexed, brain_key=KEY, query="image", image=image)
    assert text.endswith("'huge.png' can't be read as an image; give a PNG or a JPEG")


@one_engine
def test_more_results_than_a_view_holds_are_refused(indexed: fo.Dataset) -> None:
    ids = [str(ObjectId())] * 430_000
    with pytest.raises(InvalidInputError, match="430,000 results are too many"):
        selected.view_of(indexed, None, ids)


@one_engine
def test_the_index_of_a_notebook_stays_as_it_is(indexed: fo.Dataset, run: Run) -> None:
    index = indexed.load_brain_results(KEY)
    view = indexed.match(F("number") < 20)
    index.use_view(view)
    index.find_duplicates(fraction=0.2)
    mine = list(index.duplicate_ids)
    assert len(run("search", indexed, brain_key=KEY, text="a three", k=50)["ids"]) == 50
    assert len(run("find_duplicates", indexed, brain_key=KEY, fraction=0.5)["ids"]) == COUNT // 2
    assert indexed.load_brain_results(KEY) is index
    assert index.view == view
    assert list(index.duplicate_ids) == mine


@one_engine
def test_distances_replace_nothing_else(indexed: fo.Dataset, run: Run) -> None:
    before = indexed.values(["number", "filepath", "tags"])
    for name in ("number", "filepath", "id", "tags", "ground_truth", "created_at"):
        said = refuses(run, "search", indexed, brain_key=KEY, text="a three", dist_field=name)
        assert f"Invalid dist_field '{name}'" in said
    indexed.reload()
    assert indexed.values(["number", "filepath", "tags"]) == before


@one_engine
def test_distances_replace_nothing_else_of_labels(patched: fo.Dataset, run: Run) -> None:
    paths = ["objects.detections.number", "objects.detections.confidence"]
    before = patched.values(paths)
    ctx = {"selected": patched.values("id")[:1]}
    for name in ("number", "confidence", "label"):
        said = refuses(run, "search", patched, ctx=ctx, brain_key=KEY, dist_field=name)
        assert f"Invalid dist_field '{name}'" in said
    found = run("search", patched, ctx=ctx, brain_key=KEY, k=3, dist_field="far")
    again = run("search", patched, ctx=ctx, brain_key=KEY, k=3, dist_field="far")
    assert found == again
    patched.reload()
    assert patched.values(paths) == before
    ids, far = patched.values(["objects.detections.id", "objects.detections.far"], unwind=True)
    stored = {i: d for i, d in zip(ids, far, strict=True) if d is not None}
    assert stored == pytest.approx(dict(zip(found["ids"], found["distances"], strict=True)))


def test_near_duplicates(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    ids = indexed.values("id")
    distances = oracle.distances("cosine", scans.vectors[:COUNT], scans.vectors[:COUNT])
    np.fill_diagonal(distances, np.inf)
    thresh = float(np.percentile(distances.min(axis=1), 30)) + 1e-5
    found = run("find_duplicates", indexed, brain_key=KEY, thresh=thresh)
    kept = [i for i, _id in enumerate(ids) if _id not in found["ids"]]
    # What is kept is farther apart; what is not is near something that is kept
    assert distances[np.ix_(kept, kept)].min() > thresh
    dropped = [ids.index(i) for i in found["ids"]]
    assert distances[np.ix_(dropped, kept)].min(axis=1).max() <= thresh
    # Each group begins with its original, and the closest group comes first
    index = indexed.load_brain_results(KEY)
    index.find_duplicates(thresh=thresh)
    assert found["shown"] == index.duplicates_view().values("id")
    assert found["thresh"] == pytest.approx(thresh)

    near = preview.of(indexed, KEY)
    assert near.count(thresh) == int((distances.min(axis=1) <= thresh).sum())
    assert near.vectors == COUNT
    assert f"**{near.count(thresh):,} of {COUNT}**" in near.markdown(thresh)
    assert "about" not in near.markdown(thresh)
    assert preview.of(indexed, KEY) is near

    run("find_duplicates", indexed, brain_key=KEY, thresh=thresh, result="tag", tag="twin")
    assert {*indexed.match_tags("twin").values("id")} == {*found["ids"]}

    some = run("find_duplicates", indexed, brain_key=KEY, fraction=0.5)
    assert len(some["ids"]) == COUNT // 2
    none = run("find_duplicates", indexed, brain_key=KEY, fraction=0)
    assert (none["ids"], none["thresh"]) == ([], None)
    for expected, kwargs in {
        "thresh or fraction": {},
        "Invalid tag": {"thresh": thresh, "result": "tag", "tag": 5},
        "Unknown result": {"thresh": thresh, "result": "eat"},
        "Invalid thresh": {"thresh": "near"},
    }.items():
        assert expected in refuses(run, "find_duplicates", indexed, brain_key=KEY, **kwargs)


def test_duplicate_patches_are_tagged(scans: Scans, patched: fo.Dataset, run: Run) -> None:
    found = run("find_duplicates", patched, brain_key=KEY, fraction=0.25, result="tag")
    assert len(found["ids"]) == 10
    tagged = patched.filter_labels("objects", F("tags").contains("duplicate"))
    assert {*tagged.values("objects.detections.id", unwind=True)} == {*found["ids"]}


def test_unique(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    found = run("find_unique", indexed, brain_key=KEY, count=10, result="tag", tag="rare")
    assert len(found["ids"]) == 10
    assert {*indexed.match_tags("rare").values("id")} == {*found["ids"]}
    assert FindUnique().message(found)[0].endswith("; they have the tag 'rare'")
    distances = oracle.distances("cosine", scans.vectors[:COUNT], scans.vectors[:COUNT])
    found = run("find_unique", indexed, brain_key=KEY, thresh=0.08)
    ids = indexed.values("id")
    kept = [i for i, _id in enumerate(ids) if _id in {*found["ids"]}]
    rest = sorted({*range(COUNT)} - {*kept})
    among = distances[np.ix_(kept, kept)] + np.diag(np.full(len(kept), np.inf))
    assert rest
    assert among.min() > 0.08 >= distances[np.ix_(rest, kept)].min(axis=1).max()
    view = indexed.match(F("number") < 20)
    found = run("find_unique", indexed, ctx={"view": view}, brain_key=KEY, count=5, target="view")
    assert {*found["ids"]} <= {*view.values("id")}
    assert "Invalid count" in refuses(run, "find_unique", indexed, brain_key=KEY, count=0)
    # Fewer than asked for, with the reason
    few = run("find_unique", indexed, ctx={"view": view}, brain_key=KEY, count=40, target="view")
    assert len(few["ids"]) <= 20
    assert "40 were asked for, but there are no more that differ" in FindUnique().message(few)[0]
    both = refuses(run, "find_unique", indexed, brain_key=KEY, count=5, thresh=0.1)
    assert "count or thresh" in both


def form(dataset: fo.Dataset, **params: Any) -> Any:
    """Returns the form of near-duplicates as the App asks for it."""
    request = {
        "dataset_name": dataset.name,
        "params": {"brain_key": KEY, **params},
        "operator_uri": f"{NAME}/find_duplicates",
    }
    return FindDuplicates().resolve_input(ExecutionContext(request)).type.properties


@one_engine
def test_the_preview_is_made_when_it_is_wanted(
    indexed: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "_known", {})
    run("find_duplicates", indexed, brain_key=KEY, thresh=0.05)
    assert not preview._known
    monkeypatch.setattr(preview, "AT_ONCE", COUNT - 1)
    assert form(indexed)["preview"].type.__class__.__name__ == "Boolean"
    assert not preview._known
    form(indexed, preview=True, thresh=0.05)
    (near,) = preview._known.values()
    assert near.vectors == COUNT
    monkeypatch.setattr(preview, "AT_ONCE", COUNT)
    assert "preview" in form(indexed)
    assert [*preview._known.values()] == [near]
