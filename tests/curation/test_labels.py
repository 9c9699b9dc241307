"""Labels from neighbors: scikit-learn's classifier is the oracle."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from bson import ObjectId
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from fiftyone_milvus.curation import label_errors
from fiftyone_milvus.curation.label_values import LabelField
from fiftyone_milvus.curation.votes import votes
from fiftyone_milvus.demo import digits
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.neighborhoods import Vectors
from tests.support import oracle
from tests.support.indexes import Indexed, index_images, index_patches, one_line, vectors
from tests.support.once import one_engine

COUNT, K = 120, 7


def shares(
    metric: str, rows: np.ndarray, data: np.ndarray, codes: np.ndarray, k: int, weighted: bool
) -> np.ndarray:
    """Returns the share of each label for each row, by scikit-learn from numpy's distances."""
    square = oracle.distances(metric, rows, data)
    low = min(0.0, float(square.min()))
    model = KNeighborsClassifier(
        n_neighbors=k, metric="precomputed", weights="distance" if weighted else "uniform"
    )
    model.fit(np.zeros((len(data), len(data))), codes)
    # Inner products may be above 1; only the order counts
    return np.asarray(model.predict_proba(square - low))


@pytest.mark.parametrize(
    ("metric", "weighted"),
    [(m, w) for m in oracle.METRICS for w in (False, True) if not (w and m == "dotproduct")],
)
def test_votes_are_those_of_scikit_learn(metric: str, weighted: bool) -> None:
    data, codes = vectors(90), np.random.default_rng(2).integers(0, 4, 90)
    known, asked = np.arange(0, 90, 2), np.arange(1, 90, 2)
    with Vectors.of(data, metric) as points:
        found = votes(points, asked, known, codes, K, weighted=weighted)
        held_out = votes(points, known, known, codes, K, weighted=weighted)
    true = shares(metric, data[asked], data[known], codes[known], K, weighted)
    np.testing.assert_allclose(found.probabilities(4), true, atol=1e-4)
    winners, share = found.winners()
    np.testing.assert_allclose(share, true.max(axis=1), atol=1e-4)
    np.testing.assert_allclose(share, true[np.arange(45), winners], atol=1e-4)
    for at, row in enumerate(known):
        rest = known[known != row]
        alone = shares(metric, data[[row]], data[rest], codes[rest], K, weighted)[0]
        both = np.zeros(4)
        both[np.unique(codes[rest])] = alone
        np.testing.assert_allclose(held_out.probabilities(4)[at], both, atol=1e-4)
        own = codes[row]
        assert held_out.share(codes[known])[at] == pytest.approx(both[own], abs=1e-4)
        other = np.delete(both, own).max()
        assert held_out.best_other(codes[known])[1][at] == pytest.approx(other, abs=1e-4)


def test_ties_go_to_the_nearest_and_copies_decide_alone() -> None:
    data = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    codes = np.array([-1, 2, 0, 0, 2])
    with Vectors.of(data, "euclidean") as points:
        args = points, np.array([0]), np.array([1, 2, 3, 4]), codes, 4
        assert votes(*args, weighted=False).winners()[0].tolist() == [2]
    data[3] = 0.0
    with Vectors.of(data, "euclidean") as points:
        found = votes(points, np.array([0]), np.array([1, 2, 3, 4]), codes, 4, weighted=True)
        assert [x.tolist() for x in found.winners()] == [[0], [1.0]]
        # Fewer labels than neighbors
        few = votes(points, np.array([1, 2]), np.array([1, 2]), codes, 9, weighted=True)
        assert few.labels.tolist() == [[0], [2]]


def test_flipped_labels_of_digits_come_first() -> None:
    """What docs/labels.md measures."""
    scans, codes = digits.scans()
    rng = np.random.default_rng(0)
    bad = rng.choice(len(codes), round(0.05 * len(codes)), replace=False)
    flipped = codes.copy()
    flipped[bad] = (flipped[bad] + rng.integers(1, 10, len(bad))) % 10
    rows = np.arange(len(codes))
    with Vectors.of(scans.reshape(len(scans), -1), "euclidean") as points:
        ballot = votes(points, rows, rows, flipped, 10, weighted=True)
    ids = list(map(str, rows))
    found = label_errors.found(ballot, flipped, list("0123456789"), ids, field="digit")
    wrong = np.isin(list(map(int, found.ids)), bad)
    assert average_precision_score(wrong, -rows) > 0.97
    assert wrong[: len(bad)].mean() > 0.93
    assert found.confusion.counts.sum() == len(codes)
    if importlib.util.find_spec("cleanlab") is None:
        with pytest.raises(InvalidInputError, match="pip install cleanlab"):
            found.cleanlab_scores()
    else:
        assert np.corrcoef(found.scores, found.cleanlab_scores())[0, 1] < -0.99


# -- on an index -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labeled(engine: Any) -> Iterator[Indexed]:
    """An index of 120 samples, two thirds of which have a label."""
    indexed = index_images(engine, COUNT, "cosine")
    centers = vectors(8, seed=8)
    words = [f"word-{i}" for i in oracle.distances("cosine", indexed.matrix(), centers).argmin(1)]
    dataset = indexed.dataset
    some = [fo.Classification(label=w) if i % 3 else None for i, w in enumerate(words)]
    dataset.set_values("truth", some)
    dataset.set_values("text", [w if i % 3 else None for i, w in enumerate(words)])
    yield indexed
    indexed.drop()


@pytest.fixture
def unpredicted(labeled: Indexed) -> Iterator[Indexed]:
    yield labeled
    dataset = labeled.dataset
    own = ("number", "truth", "text")
    known = dataset.get_field_schema()
    dataset.delete_sample_fields(
        [f for f in known if (f.startswith(own) and f not in own) or f.startswith("label_error")]
    )
    truth = dataset.values("truth")
    dataset.set_values("truth", [one if i % 3 else None for i, one in enumerate(truth)])
    text = dataset.values("text")
    dataset.set_values("text", [one if i % 3 else None for i, one in enumerate(text)])


def expected(indexed: Indexed, weighted: bool) -> dict[str, tuple[str, float]]:
    """Returns label and confidence of each sample without one, by scikit-learn."""
    labels = dict(zip(*indexed.dataset.values(["id", "text"]), strict=True))
    known = [i for i in indexed.ids if labels[i]]
    missing = [i for i in indexed.ids if not labels[i]]
    classes, codes = np.unique([labels[i] for i in known], return_inverse=True)
    table = shares("cosine", indexed.matrix(missing), indexed.matrix(known), codes, 10, weighted)
    winners = classes[table.argmax(axis=1)]
    return dict(zip(missing, zip(winners.tolist(), table.max(axis=1).tolist()), strict=True))


def test_missing_labels_are_predicted(unpredicted: Indexed) -> None:
    dataset, index = unpredicted.dataset, unpredicted.index
    true, before = expected(unpredicted, True), dataset.values("last_modified_at")
    truth = dataset.values("truth.label")
    found = index.predict_labels("truth")
    assert (found.into, found.written, found.labeled) == ("truth_predicted", len(true), 80)
    assert {*found.ids} == {*true}
    for i, label, confidence in zip(found.ids, found.labels, found.confidences, strict=True):
        assert label == true[i][0]
        assert confidence == pytest.approx(true[i][1], abs=1e-3)
    stored = dict(zip(*dataset.values(["id", "truth_predicted"]), strict=True))
    for i, one in stored.items():
        assert (one is not None) == (i in true)
        if one is not None:
            assert (one.label, one.confidence) == (true[i][0], pytest.approx(true[i][1], abs=1e-3))
    assert dataset.values("truth.label") == truth
    assert dataset.values("last_modified_at") == before, "a note of ours is no edit"
    assert found.view().values("id")[0] == min(found.ids, key=lambda i: round(true[i][1], 3))
    assert found.confusion is not None
    assert found.confusion.counts.sum() == 80
    assert f"{found.accuracy:.1%} of held-out" in str(found)

    # Nothing is written over, whatever it says; the field itself only where there is nothing
    assert index.predict_labels("truth", k=3).written == 0
    filled = index.predict_labels("truth", into="truth", min_confidence=0.9)
    sure = {i for i, (_, confidence) in true.items() if confidence >= 0.9}
    assert {*filled.ids} == sure
    assert filled.unsure == len(true) - len(sure) > 0
    now = dataset.values("truth.label")
    assert [a for a, b in zip(now, truth, strict=True) if b] == [b for b in truth if b]
    assert sum(one is not None for one in now) == 80 + len(sure)
    edited = [a != b for a, b in zip(dataset.values("last_modified_at"), before, strict=True)]
    assert {i for i, edit in zip(unpredicted.ids, edited, strict=True) if edit} == sure


@one_engine
def test_strings_views_and_previews(unpredicted: Indexed) -> None:
    dataset, index = unpredicted.dataset, unpredicted.index
    true = expected(unpredicted, False)
    shown = index.predict_labels("text", weighted=False, into=False)
    assert (shown.into, shown.written) == (None, 0)
    assert not dataset.has_field("text_predicted")
    agree = [true[i][1] == pytest.approx(c) for i, c in zip(shown.ids, shown.confidences)]
    assert all(agree)
    assert shown.save("text") == "text"
    assert all(dataset.values("text"))
    confident = dataset.exists("text_confidence")
    assert {*confident.values("id")} == {*true}
    view = dataset.limit(30)
    with index.use_view(view):
        errors = index.find_label_errors("text")
    assert {*errors.ids} == {*view.values("id")}
    dataset.add_sample(fo.Sample(filepath="late.jpg"))
    assert index.predict_labels("truth", into=False).no_embedding == 1
    dataset.delete_samples(dataset.last())


def test_contradicted_labels_come_first(unpredicted: Indexed) -> None:
    dataset, index = unpredicted.dataset, unpredicted.index
    before = dataset.values("last_modified_at")
    found = index.find_label_errors("truth.label", weighted=True)
    labels = dict(zip(*dataset.values(["id", "text"]), strict=True))
    known = [i for i in unpredicted.ids if labels[i]]
    classes, codes = np.unique([labels[i] for i in known], return_inverse=True)
    true = {}
    for at, i in enumerate(known):
        rest = [j for j in range(len(known)) if j != at]
        kinds, inside = np.unique(codes[rest], return_inverse=True)
        row = np.zeros(len(classes))
        others = unpredicted.matrix([known[j] for j in rest])
        row[kinds] = shares("cosine", unpredicted.matrix([i]), others, inside, 10, True)[0]
        own = row[codes[at]]
        row[codes[at]] = -1
        true[i] = (row.max() - own + 1) / 2
    assert {*found.ids} == {*known}
    np.testing.assert_allclose(found.scores, [true[i] for i in found.ids], atol=1e-3)
    assert (np.diff(found.scores) <= 1e-9).all()
    assert found.labels == [labels[i] for i in found.ids]
    assert found.contradicted == int((found.scores > 0.5).sum())
    assert found.unlabeled == 40
    wrong = [a != b for a, b in zip(found.labels, found.suggested, strict=True)]
    assert all(wrong[: found.contradicted])
    assert found.view().values("id") == found.ids[: found.contradicted]
    assert found.save() == "label_error"
    stored = dict(zip(*dataset.values(["id", "label_error"]), strict=True))
    assert {i for i, score in stored.items() if score is not None} == {*known}
    assert stored[found.ids[0]] == found.scores[0]
    assert dataset[found.ids[0]].label_error_suggested == found.suggested[0]
    assert dataset.values("last_modified_at") == before
    found.save()
    with pytest.raises(InvalidInputError, match="a field 'number' that this package did not make"):
        found.save("number")


@one_engine
def test_patches_have_labels_of_their_own(engine: Any, dropped: list[Indexed]) -> None:
    indexed = index_patches(engine, 40, "euclidean")
    dropped.append(indexed)
    dataset, index = indexed.dataset, indexed.index
    missing = set(indexed.ids[::4])

    def of_patches(name: str) -> list[Any]:
        found = dataset.values(f"ground_truth.detections.{name}")
        return [value for values in found for value in values or ()]

    for sample in dataset.iter_samples(autosave=True):
        for one in sample.ground_truth.detections if sample.ground_truth else ():
            if one.id in missing:
                one.label = None
    errors = index.find_label_errors("label")
    assert {*errors.ids} == {*indexed.ids} - missing
    found = index.predict_labels("ground_truth.label")
    assert (found.into, {*found.ids}) == ("label_predicted", missing)
    ids, labels, own = map(of_patches, ("id", "label_predicted", "label"))
    stored = dict(zip(ids, labels, strict=True))
    assert {i: one for i, one in stored.items() if one} == dict(
        zip(found.ids, found.labels, strict=True)
    )
    assert index.predict_labels("label", into="label").written == len(missing)
    now = dict(zip(ids, of_patches("label"), strict=True))
    assert all(now.values())
    assert all(now[i] == label for i, label in zip(ids, own, strict=True) if label)
    assert errors.save() == "label_error"
    scores = of_patches("label_error")
    assert sum(score is not None for score in scores) == len(errors)
    assert errors.view(3).values("id") == errors.ids[:3]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What another process does after labels were read, and before they are written."""
    todo: list[Callable[[], object]] = []
    declare = LabelField._declare

    def later(self: LabelField) -> None:
        declare(self)
        while todo:
            todo.pop()()

    monkeypatch.setattr(LabelField, "_declare", later)
    yield todo
    assert todo == [], "it was done"


@one_engine
@pytest.mark.parametrize("field", ["truth", "text", "text_new"])
def test_a_label_that_is_written_meanwhile_stays(
    unpredicted: Indexed, meanwhile: list[Callable[[], object]], field: str
) -> None:
    dataset, index = unpredicted.dataset, unpredicted.index
    one, other, gone, *rest = expected(unpredicted, True)
    path = "truth.label" if field == "truth" else field

    def write() -> None:
        # An empty label is none
        for i, label in ((one, "own"), (other, "")):
            value = fo.Classification(label=label).to_mongo() if field == "truth" else label
            dataset._sample_collection.update_one({"_id": ObjectId(i)}, {"$set": {field: value}})

    if field == "text_new":
        dataset.add_sample_field(field, fo.StringField)
    meanwhile.append(write)
    found = index.predict_labels("truth", into=field)
    assert found.written == len(found) - 1
    assert "where 1 had a label already" in str(found)
    before = dataset[one].last_modified_at
    dataset.reload()
    labels = dict(zip(*dataset.values(["id", path]), strict=True))
    assert labels[one] == "own"
    table = dict(zip(found.ids, found.labels, strict=True))
    assert all(labels[i] == table[i] for i in (other, gone, *rest))
    assert dataset[one].last_modified_at == before < dataset[other].last_modified_at
    if field == "text_new":
        dataset.delete_sample_fields(["text_new", "text_new_confidence"])


@one_engine
def test_a_patch_that_is_labeled_meanwhile_stays(
    engine: Any, dropped: list[Indexed], meanwhile: list[Callable[[], object]]
) -> None:
    indexed = index_patches(engine, 20, "cosine")
    dropped.append(indexed)
    dataset, index = indexed.dataset, indexed.index
    missing = indexed.ids[::5]
    owner = {**indexed.samples}

    def set_label(label_id: str, label: str | None) -> None:
        dataset._sample_collection.update_one(
            {"_id": ObjectId(owner[label_id])},
            {"$set": {"ground_truth.detections.$[one].label": label}},
            array_filters=[{"one._id": ObjectId(label_id)}],
        )

    for i in missing:
        set_label(i, None)
    meanwhile.append(lambda: set_label(missing[0], "own"))
    found = index.predict_labels("label", into="label")
    assert found.written == len(missing) - 1
    ids, labels, sure = dataset.values(
        [f"ground_truth.detections.{name}" for name in ("id", "label", "label_confidence")],
        unwind=True,
    )
    table = {i: (one, c) for i, one, c in zip(ids, labels, sure, strict=True)}
    assert table[missing[0]] == ("own", None)
    assert {i for i, (_, c) in table.items() if c is not None} == {*missing[1:]}


@one_engine
@pytest.mark.parametrize("patches", [None, "ground_truth"])
def test_labels_from_texts(engine: Any, colours: fo.Dataset, patches: str | None) -> None:
    index = fob.compute_similarity(
        colours, model="contract-colours", patches_field=patches, metric="cosine",
        brain_key="sim", backend="milvus", **engine.kwargs,
    )  # fmt: skip
    texts = {"RED": "a red thing", "GREEN": "a green thing", "BLUE": "a blue thing"}
    found = index.predict_labels("named", prompts=texts)
    path = "named_predicted" if patches is None else "ground_truth.detections.named_predicted"
    values = colours.values(path)
    for colour, one in zip(colours.values("colour"), values, strict=True):
        labels = [one.label] if patches is None else one
        assert {*labels} == {colour.upper()}
    rows = np.stack([*index.get_embeddings()[0]])
    model = index.get_model()
    square = oracle.distances("cosine", rows, model.embed_prompts(list(texts.values())))
    softmax = np.exp(-square / 0.01)
    softmax /= softmax.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.sort(found.confidences), np.sort(softmax.max(axis=1)), atol=1e-3)
    assert found.accuracy is None
    assert found.labeled == 0
    with pytest.raises(InvalidInputError, match="leave them out with prompts"):
        index.predict_labels("named", k=3, prompts=texts)
    index.cleanup()


@one_engine
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda i: i.predict_labels("nothing"), r"no field 'nothing'; .* are text, truth"),
        (lambda i: i.predict_labels("number"), "no classifications or strings in 'number'"),
        (lambda i: i.predict_labels("truth", k=0), "Invalid k 0"),
        (lambda i: i.predict_labels("truth", into="number"), "'number'"),
        (lambda i: i.predict_labels("truth", min_confidence=2), "Invalid min_confidence 2"),
        (lambda i: i.predict_labels("new", prompts=["cat", "dog"]), "has no model"),
        (lambda i: i.predict_labels("new", prompts=["cat"]), "Invalid prompts"),
        (lambda i: i.find_label_errors(3), "Invalid field 3"),
    ],
)
def test_what_is_refused(unpredicted: Indexed, ask: Callable[[Any], Any], message: str) -> None:
    before = list(unpredicted.dataset.get_field_schema(flat=True))
    with pytest.raises(InvalidInputError, match=message) as error:
        ask(unpredicted.index)
    one_line(error.value)
    assert list(unpredicted.dataset.get_field_schema(flat=True)) == before
