"""Duplicates are reviewed: groups in a field of the samples, decisions as tags."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from PIL import Image

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import review, thumbnails
from fiftyone_milvus.plugin.review import DELETE, KEEP
from tests.app.digits import Scans
from tests.app.test_media import write_video
from tests.plugin.conftest import Run
from tests.plugin.shown import Shown
from tests.plugin.test_manage import refuses
from tests.support import oracle
from tests.support.once import one_engine

THRESH = 0.05


@pytest.fixture
def indexed(digits: fo.Dataset, run: Run) -> fo.Dataset:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine", fields=["number"])
    return digits


@pytest.fixture
def patched(digits: fo.Dataset, run: Run) -> fo.Dataset:
    """Two patches in each of twenty digits: the whole, and a bit less, which is nearly the same."""
    for sample in digits.limit(20):
        boxes = [[0, 0, 1, 1], [0.01, 0.01, 0.98, 0.98]]
        sample["objects"] = fo.Detections(
            detections=[fo.Detection(label="digit", bounding_box=box) for box in boxes]
        )
        sample.save()
    options = {"model": MODEL, "metric": "cosine", "patches_field": "objects"}
    run("create_index", digits, brain_key="mine", **options)
    return digits


def reviewed(dataset: fo.Dataset, thresh: float = THRESH) -> Shown:
    """The page with the first group, as clicks reach it."""
    shown = Shown(dataset).on("on_load").on("on_duplicates", brain_key="mine").done()
    typed(shown, thresh).on("on_find").done()
    assert shown.state["page"] == "review", shown.state["message"]
    return shown


def typed(shown: Shown, thresh: float) -> Shown:
    """Types a distance: the App keeps it, and says so after that."""
    box = shown.state["duplicates"]["box"]
    shown.state["find_row"] = {box: thresh}
    return shown.on("on_thresh", value=thresh, path=f"find_row.{box}")


def tagged(dataset: fo.Dataset, tag: str) -> set[str]:
    return {*dataset.match_tags(tag).values("id")}


def test_the_groups_are_those_of_numpy(scans: Scans, indexed: fo.Dataset) -> None:
    before = indexed.values("last_modified_at")
    shown = reviewed(indexed)
    indexed.reload()
    index = indexed.load_brain_results("mine")

    # Complete linkage; the one that is nearest to the others is kept
    order = list(index.sample_ids)
    numbers = dict(zip(*indexed.values(["id", "number"]), strict=True))
    vectors = scans.vectors[[numbers[i] for i in order]]
    distances = oracle.distances("cosine", vectors, vectors)
    documents = dict(zip(*indexed.exists("duplicates").values(["id", "duplicates"]), strict=True))
    found = {
        frozenset(order.index(i) for i, d in documents.items() if d.group == g)
        for g in documents_groups(documents)
    }
    assert found == oracle.partition(distances, THRESH)
    unit = np.arange(len(order))
    for group in found:
        unit[[*group]] = min(group)
    assert ((distances <= THRESH) & (unit[:, None] != unit)).any(), "else greedy groups would do"
    for members in map(sorted, found):
        means = distances[np.ix_(members, members)].sum(axis=1)
        (kept,) = [i for i in members if documents[order[i]].duplicate_of is None]
        assert means[members.index(kept)] == pytest.approx(means.min())
        for i in members:
            document = documents[order[i]]
            assert document.keep == (i == kept)
            if i != kept:
                assert document.duplicate_of == order[kept]
                assert document.distance == pytest.approx(distances[i, kept], abs=1e-5)
    own = index.find_groups(THRESH)
    assert dict(zip(own.ids, own.groups.tolist())) == {i: d.group for i, d in documents.items()}, (
        "the App and Python agree"
    )

    # The closest group first, in it the kept one, then the closest; the grid can group by it
    groups = {
        g: [i for i, d in documents.items() if d.group == g] for g in documents_groups(documents)
    }
    closest = [
        min(documents[i].distance for i in g if documents[i].duplicate_of) for g in groups.values()
    ]
    assert closest == sorted(closest)
    members = shown.state["group"]["members"]
    assert shown.drawn.count("data:image/jpeg;base64,") == len(members)
    assert "base64" not in str(shown.state), "which the App sends with each click"
    assert [member["kept"] for member in members] == [True] + [False] * (len(members) - 1)
    assert len(indexed.exists("duplicates").group_by("duplicates.group")) == len(groups)
    # A note of ours is no edit
    assert indexed.values("last_modified_at") == before
    assert index.sync_fields().checked == 0


def documents_groups(documents: dict[str, Any]) -> list[int]:
    return sorted({document.group for document in documents.values()})


@one_engine
def test_decisions_are_tags_that_can_be_undone(indexed: fo.Dataset) -> None:
    shown = reviewed(indexed)
    found = review.load(indexed, "mine")
    assert found is not None
    first, second = found.members(1), found.members(2)
    ids = {name: [found.ids[i] for i in group] for name, group in (("1", first), ("2", second))}

    shown.on("on_decide_group", decision=DELETE)
    assert tagged(indexed, DELETE) == {*ids["1"][1:]}
    assert shown.state["group"]["number"] == 2, "the next group, without a click"
    shown.on("on_decide", position=second[1], decision=KEEP)
    assert tagged(indexed, KEEP) == {ids["2"][1]}
    assert shown.state["group"]["members"][1]["decision"] == KEEP
    # The other one takes its place; the same again takes it back
    shown.on("on_decide", position=second[1], decision=DELETE)
    assert tagged(indexed, KEEP) == set()
    shown.on("on_decide", position=second[1], decision=DELETE)
    assert tagged(indexed, DELETE) == {*ids["1"][1:]}

    shown.on("on_decide_all", decision=DELETE)
    # Nothing is left to decide: the review still opens
    assert shown.on("on_duplicates", brain_key="mine").state["group"]["number"] == 1
    assert len(tagged(indexed, DELETE)) == len(found.duplicates)
    assert f"{len(found.duplicates):,} to delete" in shown.state["group"]["counts"]
    shown.on("on_undo")
    assert tagged(indexed, DELETE) == {*ids["1"][1:]}
    for _ in range(4):
        shown.on("on_undo")
    assert tagged(indexed, DELETE) == tagged(indexed, KEEP) == set()
    assert not shown.state["group"]["can_undo"]
    assert shown.state["group"]["number"] == 1

    # A tag that was set in the grid is a decision too, and everything is there after a restart
    indexed.select(ids["1"][1]).tag_samples(DELETE)
    review.forget(indexed)
    shown = Shown(indexed).on("on_load").on("on_duplicates", brain_key="mine")
    assert shown.state["page"] == "review"
    assert "1 to delete" in shown.state["group"]["counts"]


@one_engine
def test_steps_go_through_the_groups(indexed: fo.Dataset) -> None:
    shown = reviewed(indexed)
    count = int(shown.state["group"]["where"].split()[-1])
    assert count > 2
    assert [shown.on("on_step", by=1).state["group"]["number"] for _ in range(count)] == [
        *range(2, count + 1),
        1,
    ]
    assert shown.on("on_step", by=-1).state["group"]["number"] == count
    # A click that arrives late is for what was seen
    shown.on("on_decide_group", decision=DELETE, group=2)
    found = review.load(indexed, "mine")
    assert found is not None
    assert {int(found.groups[i]) for i in found.deleted} == {2}
    assert '"params": {"decision": "duplicate-delete", "group": 3}' in shown.drawn
    assert shown.on("on_back").state["page"] is None
    assert "Create index" in shown.drawn


@one_engine
def test_a_threshold_is_chosen_by_clicking(scans: Scans, indexed: fo.Dataset) -> None:
    shown = Shown(indexed).on("on_load").on("on_duplicates", brain_key="mine").done()
    distances = oracle.distances("cosine", scans.vectors[:60], scans.vectors[:60])
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)

    known = shown.state["duplicates"]
    assert sum(known["counts"]) == 60
    middle = (known["edges"][4] + known["edges"][5]) / 2
    shown.on("on_bar", x=middle)
    known = shown.state["duplicates"]
    assert known["thresh"] == known["edges"][5], "the upper end of the bar"
    (row,) = [row for row in known["rows"] if row["thresh"] == known["thresh"]]
    assert row["samples"] == f"{(nearest <= known['thresh']).sum()} of 60"
    assert "cumulative" in shown.drawn
    counts = [int(row["samples"].split()[0]) for row in known["rows"]]
    assert counts == sorted(counts)

    shown.on("on_row", row=0)
    assert shown.state["duplicates"]["thresh"] == known["rows"][0]["thresh"]
    old, box = known["box"], shown.state["duplicates"]["box"]
    shown.on("on_row", row=99).on("on_thresh", value="x", path=f"find_row.{box}")
    # The App may tell late what another box had: what is in the one that is seen counts
    shown.on("on_thresh", value=known["thresh"], path=f"find_row.{old}")
    assert shown.state["duplicates"]["thresh"] == known["rows"][0]["thresh"] != known["thresh"]
    typed(shown, 1e-9).on("on_thresh", value=1.0, path=f"find_row.{old}").on("on_find").done()
    assert "No duplicates within 1e-09" in shown.state["message"][1]
    assert shown.state["page"] == "distance"
    # In a view, only what it has is compared
    few = indexed.limit(30)
    shown.view = few._serialize()
    shown.on("on_change_view")
    # Told again of the same view, which the App does after each event: nothing is drawn, or sent
    before, shown.drawn = shown.drawn, ""
    assert (shown.on("on_change_view").drawn, shown.patches) == ("", [])
    shown.drawn = before
    assert "In the whole dataset" in shown.drawn
    typed(shown.on("on_scope"), 0.2).on("on_find").done()
    found = review.load(indexed, "mine")
    assert found is not None
    assert {*found.ids} <= {*few.values("id")}


@one_engine
def test_deleting_asks_and_takes_the_vectors_too(indexed: fo.Dataset, run: Run) -> None:
    assert "No duplicates of index 'mine' were searched for" in refuses(
        run, "delete_duplicates", indexed, brain_key="mine", confirmed=True
    )
    shown = reviewed(indexed)
    assert "Nothing has the tag" in refuses(
        run, "delete_duplicates", indexed, brain_key="mine", confirmed=True
    )
    shown.on("on_decide_group", decision=DELETE)
    gone = tagged(indexed, DELETE)
    shown.on("on_delete")
    assert shown.prompts[-1]["operator_uri"].endswith("/delete_duplicates")
    assert "confirm" in refuses(run, "delete_duplicates", indexed, brain_key="mine")
    assert len(indexed) == 60

    result = run("delete_duplicates", indexed, brain_key="mine", confirmed=True)
    assert (result["deleted"], result["vectors"]) == (len(gone), len(gone))
    indexed.reload()
    left = {*indexed.values("id")}
    assert left.isdisjoint(gone)
    assert {*indexed.load_brain_results("mine").sample_ids} == left
    number = shown.state["group"]["number"]
    shown.on("refresh")
    assert shown.state["page"] == "review"
    assert shown.state["group"]["deleted"] == 0
    assert shown.state["group"]["number"] == number
    found = review.load(indexed, "mine")
    assert found is not None
    assert 1 not in found.numbers, "a group without duplicates"
    for _ in found.numbers:
        shown.on("on_decide_group", decision=DELETE)
    run("delete_duplicates", indexed, brain_key="mine", confirmed=True)
    assert shown.on("refresh").done().state["page"] == "distance"


@one_engine
def test_tags_of_ones_own(indexed: fo.Dataset, run: Run) -> None:
    shown = reviewed(indexed)
    found = review.load(indexed, "mine")
    assert found is not None
    shown.on("on_tag")
    params = {**shown.prompts[-1]["params"], "which": "group", "tag": "twin"}
    params.pop("panel")
    run("tag_duplicates", indexed, **params)
    assert tagged(indexed, "twin") == {found.ids[i] for i in found.members(1)[1:]}
    assert run("tag_duplicates", indexed, brain_key="mine")["tagged"] == len(found.duplicates)
    assert "'some'" in refuses(run, "tag_duplicates", indexed, brain_key="mine", which="some")


@one_engine
def test_patches(patched: fo.Dataset, run: Run) -> None:
    before = patched.values("last_modified_at")
    shown = reviewed(patched, 0.02)
    assert patched.values("last_modified_at") == before
    found = review.load(patched, "mine")
    assert found is not None
    assert len(found.numbers) >= 10
    parts = [f"objects.detections.duplicates.{part}" for part in ("group", "duplicate_of")]
    groups, originals = patched.values(parts, unwind=True)
    labels = patched.values("objects.detections.id", unwind=True)
    assert {i: g for i, g in zip(labels, groups, strict=True) if g} == dict(
        zip(found.ids, found.groups.tolist(), strict=True)
    )
    assert {o for o in originals if o} == {
        i for i, k in zip(found.ids, found.kept, strict=True) if k
    }

    shown.on("on_decide_all", decision=DELETE)
    expected = {found.ids[i] for i in found.duplicates}
    deleted = patched.select_labels(tags=DELETE).values("objects.detections.id", unwind=True)
    assert {*deleted} == expected
    shown.on("on_undo")
    assert patched.count_label_tags() == {}
    shown.on("on_decide_all", decision=DELETE)
    result = run("delete_duplicates", patched, brain_key="mine", confirmed=True)
    assert result["what"] == "patches"
    assert result["deleted"] == result["vectors"] == len(expected)
    labels = patched.values("objects.detections.id", unwind=True)
    assert {*labels}.isdisjoint(expected)
    assert {*patched.load_brain_results("mine").label_ids} == {*labels}


@one_engine
def test_vectors_of_deleted_patches_are_named(patched: fo.Dataset) -> None:
    sample = patched.first()
    sample["objects"].detections.pop()
    sample.save()
    shown = Shown(patched).on("on_load").on("on_duplicates", brain_key="mine").done()
    typed(shown, 0.02).on("on_find").done()
    assert "1 rows of deleted samples were left out" in shown.state["message"][1]
    assert shown.state["page"] == "review"
    found = review.load(patched, "mine")
    assert found is not None
    assert {*found.ids} <= {*patched.values("objects.detections.id", unwind=True)}


@one_engine
def test_a_field_of_the_users_is_left_alone(indexed: fo.Dataset, run: Run) -> None:
    indexed.add_sample_field("duplicates", fo.StringField)
    indexed.set_values("duplicates", ["mine"] * 60)
    shown = Shown(indexed).on("on_load").on("on_duplicates", brain_key="mine").done()
    typed(shown, THRESH).on("on_find").done()
    assert "has a field 'duplicates' that is not of a review" in shown.state["problem"]
    options = {"thresh": THRESH, "result": "review"}
    assert "'duplicates'" in refuses(run, "find_duplicates", indexed, brain_key="mine", **options)
    assert indexed.distinct("duplicates") == ["mine"]


@one_engine
def test_another_review_takes_the_place_of_the_first(indexed: fo.Dataset, run: Run) -> None:
    reviewed(indexed).on("on_decide_all", decision=DELETE)
    result = run("find_duplicates", indexed, brain_key="mine", thresh=0.04, result="review")
    assert tagged(indexed, DELETE) == set()
    found = review.load(indexed, "mine")
    assert found is not None
    assert found.duplicates
    assert {found.ids[i] for i in found.duplicates} == {*result["ids"]}
    assert {*indexed.exists("duplicates").values("id")} == {*found.ids}


@one_engine
def test_an_index_that_holds_tags_notices(digits: fo.Dataset, run: Run) -> None:
    """A metadata field is what a view filters by: its edits are edits."""
    options = {"model": MODEL, "metric": "cosine", "fields": ["tags"]}
    run("create_index", digits, brain_key="mine", **options)
    shown = reviewed(digits)
    index = digits.load_brain_results("mine")
    assert index.sync_fields().checked == 0
    shown.on("on_decide_group", decision=DELETE)
    assert index.sync_fields().updated == len(tagged(digits, DELETE))


@one_engine
def test_thumbnails(tmp_path: Any) -> None:
    path = str(tmp_path / "image.png")
    image = Image.new("RGB", (400, 200), "white")
    image.paste("black", (200, 0, 400, 200))
    image.save(path)
    whole = thumbnails.thumbnail(path, "image")
    assert whole is not None
    assert whole.startswith("data:image/jpeg;base64,")
    right = fo.Detection(label="x", bounding_box=[0.5, 0, 0.5, 1])
    line = fo.Polyline(points=[[(0.5, 0), (1, 0), (1, 1)]])
    assert thumbnails.thumbnail(path, "image", right) == thumbnails.thumbnail(path, "image", line)
    assert thumbnails.thumbnail(path, "image", right) != whole
    assert thumbnails.thumbnail(str(tmp_path / "none.png"), "image") is None
    assert thumbnails.thumbnail(path + "x", "video") is None


@one_engine
def test_the_most_unique_come_first(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    distances = oracle.distances("cosine", scans.vectors[:60], scans.vectors[:60])
    np.fill_diagonal(distances, np.inf)
    ids = dict(zip(*indexed.values(["id", "number"]), strict=True))
    found = run("find_unique", indexed, brain_key="mine", count=15)
    nearest = [distances[ids[i]].min() for i in found["ids"]]
    assert len(nearest) == 15
    assert nearest == sorted(nearest, reverse=True)


@one_engine
def test_groups_of_slices(scans: Scans, run: Run) -> None:
    """A sample and its duplicate may be in different slices of a grouped dataset."""
    dataset = fo.Dataset("slices")
    dataset.add_group_field("scene", default="left")
    scenes = [fo.Group() for _ in range(10)]
    dataset.add_samples(
        fo.Sample(scans.paths[n // 2], number=n, scene=scenes[n // 2].element(side))
        for n in range(20)
        for side in (("left", "right")[n % 2],)
    )
    both = dataset.select_group_slices(_allow_mixed=True)
    both.set_values("vector", list(scans.vectors[np.arange(20) // 2]))
    fob.compute_similarity(
        both, backend="milvus", brain_key="mine", embeddings="vector", metric="cosine"
    )
    shown = reviewed(dataset, 1e-4)
    found = review.load(dataset, "mine")
    assert found is not None
    assert (len(found.numbers), len(found.duplicates)) == (10, 10)
    assert shown.drawn.count("data:image/jpeg;base64,") == 2
    shown.on("on_decide_all", decision=DELETE).on("on_grid", all=True)
    assert not shown.state["problem"]
    assert len(both.match_tags(DELETE)) == 10
    assert run("delete_duplicates", dataset, brain_key="mine", confirmed=True)["deleted"] == 10
    assert len(dataset.select_group_slices(_allow_mixed=True)) == 10
    dataset.load_brain_results("mine").cleanup()
    dataset.delete()


@one_engine
def test_the_first_frame_of_a_video(scans: Scans, tmp_path: Path) -> None:
    write_video(scans.paths[0], path := tmp_path / "0.mp4")
    picture = thumbnails.thumbnail(str(path), "video")
    assert picture is not None
    data = base64.b64decode(picture.partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    whole = Image.open(scans.paths[0]).convert("L").resize(shown.shape[::-1])
    assert np.abs(shown - np.asarray(whole, dtype=float)).mean() < 20
