"""A view as a Milvus expression finds what MongoDB finds, on both engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce
from operator import and_, or_
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.server.view import get_view
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_milvus.collection.filters import everything
from fiftyone_milvus.fields.translate import translate
from fiftyone_milvus.schema.columns import resolve_columns
from tests.conftest import Engine
from tests.support.indexes import KEY, unique, vectors
from tests.support.once import one_engine

DAY, NOON = date(2024, 2, 29), datetime(2024, 2, 29, 12, 0, 0, 123000)
WORDS = ["", "cat", "cats", "Cat", "ca%", "c_t", 'say "hi"', "it's", "back\\slash", "line\nfeed"]
WORDS += ["日本", "é", "z\U0010ffff", "\ud7ff", "~", "tab\t"]
LABELS = ["cat", "dog", 'odd "one"', "日本"]
INTS = [-(2**53) - 1, -3, -1, 0, 1, 2, 3, 2**31, 2**53 + 1]
FLOATS = [-math.inf, -1e300, -1.5, -0.0, 0.0, 0.5, 1.0, 3.0, 1e300, math.inf, math.nan]
DAYS = [date(1969, 12, 31), date(1970, 1, 1), DAY]
TIMES = [datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(1970, 1, 1), NOON]

SAMPLE_FIELDS = ["text", "number", "score", "flag", "day", "at", "tags", "words"]
SAMPLE_FIELDS += ["metadata.width", "weather.label", "weather.confidence"]
LIST_FIELDS = ["ground_truth.detections.label", "ground_truth.detections.mood"]
LABEL_FIELDS = ["ground_truth.label", "ground_truth.detections.confidence", "ground_truth.count"]
LABEL_FIELDS += ["ground_truth.tags", "ground_truth.mood"]


@dataclass
class Synced:
    """An index with metadata fields."""

    dataset: fo.Dataset
    index: Any
    patches_field: str | None
    columns: Any

    def translate(self, view: Any) -> str | None:
        return translate(view, self.columns, self.patches_field)

    def found(self, expression: str, consistency: str = "Eventually") -> set[str]:
        """Returns the rows that Milvus finds."""
        rows = self.index.client.query(
            self.index.config.collection_name,
            filter=expression or everything("pk"),
            output_fields=["pk"],
            consistency_level=consistency,
        )
        return {row["pk"] for row in rows}

    def check(self, view: Any, translates: bool = True) -> None:
        """Fails unless Milvus finds the rows that MongoDB finds."""
        expression = self.translate(view)
        if not translates:
            assert expression is None
            return
        assert expression is not None, view
        if self.patches_field is None:
            expected = set(view.values("id"))
        elif view._is_patches:
            expected = set(view.values(f"{self.patches_field}.id")) - {None}
        else:
            expected = set(view.values(f"{self.patches_field}.detections.id", unwind=True))
        assert self.found(expression) == expected - {None}, expression


def _dataset() -> fo.Dataset:
    rng = np.random.default_rng(51)

    def pick(values: list[Any], none: float = 0.25) -> Any:
        return None if rng.random() < none else values[rng.integers(len(values))]

    def some(values: list[str], none: float = 0.2) -> Any:
        if rng.random() < none:
            return None
        return [values[i] for i in rng.integers(len(values), size=rng.integers(4))]

    def detection() -> fo.Detection:
        return fo.Detection(
            label=pick(LABELS, 0.15),
            confidence=pick([0.0, 0.25, 0.5, 1.0]),
            bounding_box=[0.1, 0.1, 0.2, 0.2],
            count=pick(INTS),
            mood=pick(["good", "bad", ""]),
            tags=some(["seen", "odd"], 0) or [],
        )

    samples = []
    for i in range(64):
        weather = fo.Classification(label=pick(LABELS), confidence=pick([0.0, 0.5, 1.0]))
        sample = fo.Sample(
            filepath=f"image-{i}.jpg",
            tags=some(["train", "test", 'a "tag"'], 0),
            text=pick(WORDS),
            number=pick(INTS),
            score=pick(FLOATS),
            flag=pick([True, False]),
            day=pick(DAYS),
            at=pick(TIMES),
            words=some(WORDS),
            weather=weather if rng.random() < 0.7 else None,
            metadata=fo.ImageMetadata(width=pick([0, 640, 1920])) if rng.random() < 0.7 else None,
        )
        if i % 5:
            objects = [detection() for _ in range(rng.integers(4))]
            sample["ground_truth"] = fo.Detections(detections=objects)
        samples.append(sample)
    dataset = fo.Dataset(unique("translate"))
    dataset.add_samples(samples, dynamic=True)
    # None in one document is missing in another
    for i, field in enumerate(["text", "number", "score", "flag", "day", "at", "words"]):
        ids = [sample._id for sample in samples[i::9]]
        dataset._sample_collection.update_many({"_id": {"$in": ids}}, {"$unset": {field: ""}})
    ids = [sample._id for sample in samples[::7]]
    dataset._sample_collection.update_many({"_id": {"$in": ids}}, {"$unset": {"weather.label": ""}})
    dataset.reload()
    return dataset


def _sync(engine: Engine, dataset: fo.Dataset, patches_field: str | None) -> Synced:
    paths = SAMPLE_FIELDS + (LIST_FIELDS if patches_field is None else LABEL_FIELDS)
    columns = resolve_columns(dataset, patches_field, paths)
    if patches_field is None:
        kwargs: dict[str, Any] = {"embeddings": vectors(len(dataset))}
    else:
        ids, labels = dataset.values(["id", f"{patches_field}.detections.id"])
        embeddings = {_id: vectors(len(own)) for _id, own in zip(ids, labels) if own}
        kwargs = {"embeddings": embeddings, "patches_field": patches_field}
    index = fob.compute_similarity(
        dataset,
        brain_key=f"{KEY}_{patches_field or 'samples'}",
        backend="milvus",
        fields=paths,
        **kwargs,
        **engine.kwargs,
    )
    synced = Synced(dataset, index, patches_field, columns)
    synced.found("", consistency="Strong")  # Nothing is written after it: later ones see it all
    return synced


@pytest.fixture(scope="module")
def _synced(engine: Engine) -> Iterator[dict[str, Synced]]:
    dataset = _dataset()
    made = {
        "samples": _sync(engine, dataset, None),
        "patches": _sync(engine, dataset, "ground_truth"),
    }
    yield made
    for synced in made.values():
        synced.index.cleanup()
    dataset.delete()


@pytest.fixture(scope="module")
def samples(_synced: dict[str, Synced]) -> Synced:
    return _synced["samples"]


@pytest.fixture(scope="module")
def patches(_synced: dict[str, Synced]) -> Synced:
    return _synced["patches"]


# Expressions ----------------------------------------------------------------------------------

SCALARS = {
    "text": WORDS,
    "number": INTS,
    "score": FLOATS,
    "flag": [True, False],
    "day": DAYS,
    "at": TIMES,
    "metadata.width": [0, 640],
    "weather.label": LABELS,
    "weather.confidence": [0.0, 0.5],
}
LABEL_SCALARS = {
    "label": LABELS,
    "confidence": [0.0, 0.25, 0.3],
    "count": INTS,
    "mood": ["good", "", "other"],
}
ODD = ["", "cat", -1, 0, 2, 2.5, -0.5, 3.0, True, False, DAY, NOON]
PREFIXES = ["c", "ca%", "c_", "Ca", "cat", "", "日", 'say "', "it'", "z\U0010ffff", "\ud7ff", "l.n"]

COMPARISONS: list[Callable[[Any, Any], Any]] = [
    lambda f, v: f == v,
    lambda f, v: f != v,
    lambda f, v: f < v,
    lambda f, v: f <= v,
    lambda f, v: f > v,
    lambda f, v: f >= v,
]


def _comparisons(fields: dict[str, list[Any]], prefix: str = "") -> st.SearchStrategy[Any]:
    def of(path: str) -> st.SearchStrategy[Any]:
        f, values = F(prefix + path), fields[path]
        compare = st.sampled_from(COMPARISONS)
        literals = st.sampled_from([v for v in values + ODD if not _unlikely(v)])
        leaves = [
            st.builds(lambda op, v: op(F(prefix + path), v), compare, literals),
            st.builds(
                lambda vs: F(prefix + path).is_in(vs),
                st.lists(literals.filter(lambda v: not isinstance(v, date)), max_size=4),
            ),
            st.sampled_from([f.exists(), f == None, f != None, f.is_null(), f]),  # noqa: E711
        ]
        if path in ("text", "label", "mood"):
            prefixes = st.sampled_from(PREFIXES)
            leaves.append(st.builds(lambda p: F(prefix + path).starts_with(p), prefixes))
            leaves.append(
                st.builds(
                    lambda p: F(prefix + path).starts_with(p),
                    st.lists(prefixes, min_size=1, max_size=3),
                )
            )
        return st.one_of(leaves)

    return st.sampled_from(sorted(fields)).flatmap(of)


def _unlikely(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 2**53 and value % 2 == 1


def _lists(paths: dict[str, list[str]], prefix: str = "") -> st.SearchStrategy[Any]:
    def of(path: str) -> st.SearchStrategy[Any]:
        f, values = F(prefix + path), st.sampled_from(paths[path])
        return st.one_of(
            st.builds(lambda v: F(prefix + path).contains(v), values),
            st.builds(
                lambda vs: F(prefix + path).contains(vs), st.lists(values, min_size=2, max_size=3)
            ),
            st.builds(
                lambda vs: (F(prefix + path) != None).if_else(  # noqa: E711
                    F(prefix + path).contains(vs, all=True), False
                ),
                st.lists(values, min_size=2, max_size=3),
            ),
            st.sampled_from(
                [f.exists(), f == None] + [f.length() > 0] * ("." not in path)  # noqa: E711
            ),
        )

    return st.sampled_from(sorted(paths)).flatmap(of)


def _nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda e: ~e, inner),
            st.builds(lambda es: reduce(and_, es), st.lists(inner, min_size=2, max_size=3)),
            st.builds(lambda es: reduce(or_, es), st.lists(inner, min_size=2, max_size=3)),
            st.builds(F.any, st.lists(inner, max_size=3)),
            st.builds(F.all, st.lists(inner, max_size=3)),
            st.builds(lambda a, b, c: a.if_else(b & b, c | c), inner, inner, inner),
        ),
        max_leaves=6,
    ).map(_as_expression)


def _as_expression(expr: Any) -> Any:
    return expr if isinstance(expr, F.__mro__[1]) else F.literal(expr)


SAMPLE_LISTS = {"tags": ["train", "test", 'a "tag"', "none"], "words": [*WORDS, "other"]}
EXPRESSIONS = _nested(
    st.one_of(
        _comparisons(SCALARS),
        _lists({**SAMPLE_LISTS, "ground_truth.detections.label": [*LABELS, "other"]}),
    )
)
SAMPLE_EXPRESSIONS = _nested(st.one_of(_comparisons(SCALARS), _lists(SAMPLE_LISTS)))
LABEL_EXPRESSIONS = _nested(
    st.one_of(_comparisons(LABEL_SCALARS), _lists({"tags": ["seen", "odd", "none"]}))
)

SLOW = settings(max_examples=60)


@SLOW
@given(expr=EXPRESSIONS)
def test_expressions_over_samples(samples: Synced, expr: Any) -> None:
    samples.check(samples.dataset.match(expr))


@SLOW
@given(of_samples=SAMPLE_EXPRESSIONS, of_labels=LABEL_EXPRESSIONS, only=st.booleans())
def test_expressions_over_labels(
    patches: Synced, of_samples: Any, of_labels: Any, only: bool
) -> None:
    view = patches.dataset.match(of_samples)
    patches.check(view.filter_labels("ground_truth", of_labels, only_matches=only))


# Queries --------------------------------------------------------------------------------------

QUERY_VALUES = {
    **{path: values for path, values in SCALARS.items() if path != "day"},
    "day": [datetime(d.year, d.month, d.day) for d in DAYS],
}
QUERY_ODD = ["", "cat", -1, 0, 2, 2.5, 3.0, True, False, NOON]


def _clauses() -> st.SearchStrategy[Any]:
    def of(path: str) -> st.SearchStrategy[Any]:
        values = [v for v in QUERY_VALUES[path] + QUERY_ODD if not _unlikely(v)]
        literals = st.sampled_from(values)
        ordered = literals.filter(lambda v: v == v)
        with_none = st.sampled_from([*values, None])
        operators = st.one_of(
            st.builds(lambda v: {"$eq": v}, with_none),
            st.builds(lambda v: {"$ne": v}, with_none),
            st.builds(
                lambda op, v: {op: v}, st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), ordered
            ),
            st.builds(lambda vs: {"$in": vs}, st.lists(with_none, max_size=3)),
            st.builds(lambda vs: {"$nin": vs}, st.lists(with_none, max_size=3)),
            st.builds(lambda a, b: {"$gte": a, "$lt": b}, ordered, ordered),
        )
        return st.one_of(
            st.builds(lambda v: {path: v}, with_none),
            st.builds(lambda query: {path: query}, operators),
            st.builds(lambda query: {path: {"$not": query}}, operators),
        )

    strings = st.sampled_from(["train", "test", "cat", *LABELS])
    lists = st.builds(
        lambda path, query: {path: query},
        st.sampled_from(["tags", "words", "ground_truth.detections.label"]),
        st.one_of(
            strings,
            st.builds(
                lambda op, vs: {op: vs},
                st.sampled_from(["$in", "$nin", "$all"]),
                st.lists(strings, max_size=3),
            ),
            st.builds(lambda v: {"$ne": v}, strings),
        ),
    )
    return st.one_of(st.sampled_from(sorted(QUERY_VALUES)).flatmap(of), lists)


QUERIES = st.recursive(
    _clauses(),
    lambda inner: st.builds(
        lambda op, queries: {op: queries},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


@SLOW
@given(query=QUERIES)
def test_queries(samples: Synced, query: Any) -> None:
    samples.check(samples.dataset.match(query))


# Stages ---------------------------------------------------------------------------------------

Stage = Callable[[Any], Any]

SAMPLE_STAGES: dict[str, Stage] = {
    "dataset": lambda d: d,
    "view": lambda d: d.view(),
    "match": lambda d: d.match(F("text") == "cat"),
    "match-expr": lambda d: d.match({"$expr": {"$gt": ["$number", 0]}}),
    "match-flipped": lambda d: d.match({"$expr": {"$lt": [0, "$number"]}}),
    "match-two": lambda d: d.match(F("number") > 0).match(F("flag")),
    "match-literal": lambda d: d.match(F.literal(True)),
    "match-nothing": lambda d: d.match(F.literal(False)),
    "match-tags": lambda d: d.match_tags("train"),
    "match-tags-any": lambda d: d.match_tags(["train", "test"]),
    "match-tags-all": lambda d: d.match_tags(["train", "test"], all=True),
    "match-tags-not": lambda d: d.match_tags(["train", "test"], bool=False),
    "match-tags-not-all": lambda d: d.match_tags(["train", "test"], bool=False, all=True),
    "exists": lambda d: d.exists("text"),
    "exists-not": lambda d: d.exists("metadata.width", False),
    "exists-list": lambda d: d.exists("words"),
    "exists-labels": lambda d: d.exists("ground_truth.detections.label"),
    "length": lambda d: d.match(F("words").length() == 0),
    "length-some": lambda d: d.match(F("words").length() >= 1),
    "filter-field": lambda d: d.filter_field("number", F() > 0),
    "filter-field-all": lambda d: d.filter_field("number", F() > 0, only_matches=False).match(
        F("number") < 2
    ),
    "filter-label": lambda d: d.filter_labels("weather", F("label") == "cat"),
    "filter-label-more": lambda d: d.filter_labels("weather", F("confidence") > 0.2).match(
        F("weather.label") == "dog"
    ),
    "filter-label-all": lambda d: d.filter_labels(
        "weather", F("label") != "cat", only_matches=False
    ).match(F("weather.confidence") < 0.7),
    "filter-labels": lambda d: d.filter_labels("ground_truth", F("label") == "cat"),
    "filter-labels-in": lambda d: d.filter_labels("ground_truth", F("label").is_in(LABELS[:2])),
    "filter-labels-or": lambda d: d.filter_labels(
        "ground_truth", (F("label") == "cat") | (F("mood") == "bad")
    ),
    "filter-labels-all": lambda d: d.filter_labels(
        "ground_truth", F("confidence") > 0.3, only_matches=False
    ),
    "any-label": lambda d: d.match(
        F("ground_truth.detections").filter(F("label") == "dog").length() > 0
    ),
    "match-labels": lambda d: d.match_labels(filter=F("label") == "cat", fields="ground_truth"),
    "match-labels-not": lambda d: d.match_labels(
        filter=F("label") == "cat", fields="ground_truth", bool=False
    ),
    "match-labels-everywhere": lambda d: d.match_labels(filter=F("label") == "cat"),
    "match-label": lambda d: d.match_labels(filter=F("confidence") > 0.2, fields="weather"),
    "select": lambda d: d.select(d.values("id")[3:9]),
    "select-none": lambda d: d.select([]),
    "select-ordered": lambda d: d.select(d.values("id")[9:3:-1], ordered=True),
    "exclude": lambda d: d.exclude(d.values("id")[3:9]),
    "select-by": lambda d: d.select_by("text", ["cat", "cats"]),
    "select-by-ordered": lambda d: d.select_by("number", [3, 1, 2.0], ordered=True),
    "exclude-by": lambda d: d.exclude_by("text", ["cat", "cats"]),
    "select-fields": lambda d: d.match(F("flag")).select_fields("text").match(F("text") > "d"),
    "exclude-fields": lambda d: d.match(F("flag")).exclude_fields("words"),
    "sort-by": lambda d: d.match(F("flag")).sort_by("number"),
    "sort-by-expression": lambda d: d.match(F("flag")).sort_by(F("tags").length()),
    "shuffle": lambda d: d.match(F("flag")).shuffle(seed=51),
    "set-field": lambda d: d.set_field("number", F("number").abs()).match(F("flag")),
    "map-labels": lambda d: d.map_labels("weather", {"cat": "dog"}).match(F("flag")),
    "limit-labels": lambda d: d.limit_labels("ground_truth", 1).match(F("flag")),
    "mongo": lambda d: d.mongo([{"$match": {"flag": True}}]),
}

NO_SAMPLE_STAGES: dict[str, Stage] = {
    "limit": lambda d: d.limit(5),
    "skip": lambda d: d.skip(5),
    "take": lambda d: d.take(5),
    "no-column": lambda d: d.match(F("filepath") > "image-3"),
    "no-column-exists": lambda d: d.exists("metadata"),
    "fields": lambda d: d.match(F("number") == F("score")),
    "arithmetic": lambda d: d.match(F("number") + 1 > 2),
    "length": lambda d: d.match(F("words").length() > 1),
    "labels-length": lambda d: d.match(F("ground_truth.detections.label").length() > 0),
    "null": lambda d: d.match({"$expr": {"$eq": ["$text", None]}}),
    "null-in": lambda d: d.match(F("text").is_in(["cat", None])),
    "mongo-exists": lambda d: d.match({"text": {"$exists": True}}),
    "regex": lambda d: d.match(F("text").re_match("c.t")),
    "ends-with": lambda d: d.match(F("text").ends_with("t")),
    "case": lambda d: d.match(F("text").starts_with("c", case_sensitive=False)),
    "control": lambda d: d.match(F("text") == "\x01"),
    "edited": lambda d: d.set_field("number", F("number").abs()).match(F("number") > 1),
    "edited-above": lambda d: d.map_labels("weather", {"cat": "dog"}).match_labels(
        filter=F("label") == "dog", fields="weather"
    ),
    "excluded": lambda d: d.exclude_fields("number").match(F("number") > 1),
    "not-selected": lambda d: d.select_fields("text").match(F("number") > 1),
    "filter-label-none": lambda d: d.filter_labels("weather", F("label") != "cat"),
    "filter-labels-not": lambda d: d.filter_labels("ground_truth", F("label") != "cat"),
    "filter-labels-and": lambda d: d.filter_labels(
        "ground_truth", (F("label") == "cat") & (F("mood") == "bad")
    ),
    "filter-labels-twice": lambda d: d.filter_labels(
        "ground_truth", F("label") == "cat"
    ).filter_labels("ground_truth", F("mood") == "bad"),
    "filter-labels-no-column": lambda d: d.filter_labels("ground_truth", F("confidence") > 0.3),
    "filtered-labels": lambda d: d.filter_labels(
        "ground_truth", F("label") == "cat", only_matches=False
    ).match(F("ground_truth.detections.label").contains("dog")),
    "match-labels-ids": lambda d: d.match_labels(
        ids=d.values("ground_truth.detections.id", unwind=True)[:3], fields="ground_truth"
    ),
    "patches": lambda d: d.to_patches("ground_truth"),
    "group-by": lambda d: d.group_by("text"),
}

PATCH_STAGES: dict[str, Stage] = {
    "dataset": lambda d: d,
    "match": lambda d: d.match(F("number") > 0),
    "match-tags": lambda d: d.match_tags("train"),
    "select": lambda d: d.select(d.values("id")[3:9]),
    "exists": lambda d: d.exists("ground_truth"),
    "some-labels": lambda d: d.match(F("ground_truth.detections").length() > 0),
    "no-labels": lambda d: d.match(F("ground_truth.detections").length() == 0),
    "filter-labels": lambda d: d.filter_labels("ground_truth", F("label") == "cat"),
    "filter-labels-not": lambda d: d.filter_labels("ground_truth", F("label") != "cat"),
    "filter-labels-twice": lambda d: d.filter_labels(
        "ground_truth", F("label") == "cat"
    ).filter_labels("ground_truth", (F("confidence") > 0.2) | (F("count") < 0), only_matches=False),
    "filter-other": lambda d: d.filter_labels("weather", F("label") == "cat"),
    "match-other": lambda d: d.match_labels(filter=F("label") == "cat", fields="weather"),
    "select-labels": lambda d: d.select_labels(
        ids=d.values("ground_truth.detections.id", unwind=True)[3:9]
    ),
    "select-labels-tags": lambda d: d.select_labels(tags="seen", fields="ground_truth"),
    "exclude-labels": lambda d: d.exclude_labels(
        ids=d.values("ground_truth.detections.id", unwind=True)[3:9],
        fields="ground_truth",
        omit_empty=False,
    ),
    "patches": lambda d: d.to_patches("ground_truth"),
    "filtered-to-patches": lambda d: (
        d.match(F("flag"))
        .filter_labels("ground_truth", F("confidence") > 0.2)
        .to_patches("ground_truth")
    ),
    "patches-match": lambda d: d.to_patches("ground_truth").match(F("ground_truth.label") == "cat"),
    "patches-match-sample": lambda d: (
        d.to_patches("ground_truth").match(F("metadata.width") > 600).match_tags("test")
    ),
    "patches-other-fields": lambda d: d.to_patches("ground_truth", other_fields="number").match(
        F("number") < 1
    ),
    "patches-filter": lambda d: d.to_patches("ground_truth").filter_labels(
        "ground_truth", F("count") < 2
    ),
    "patches-filter-all": lambda d: d.to_patches("ground_truth").filter_labels(
        "ground_truth", F("count") < 2, only_matches=False
    ),
    "patches-match-labels": lambda d: d.to_patches("ground_truth").match_labels(
        filter=F("label") == "dog"
    ),
    "patches-match-labels-not": lambda d: d.to_patches("ground_truth").match_labels(
        tags="seen", bool=False
    ),
    "patches-select-labels": lambda d: d.to_patches("ground_truth").select_labels(tags="seen"),
    "patches-select": lambda d: _some(d.to_patches("ground_truth"), "select"),
    "patches-exclude": lambda d: _some(d.to_patches("ground_truth"), "exclude"),
    "patches-sorted": lambda d: d.to_patches("ground_truth").sort_by("ground_truth.label"),
}

NO_PATCH_STAGES: dict[str, Stage] = {
    "limit": lambda d: d.limit(5),
    "limit-before": lambda d: d.limit(5).to_patches("ground_truth"),
    "limit-patches": lambda d: d.to_patches("ground_truth").limit(5),
    "limit-labels": lambda d: d.limit_labels("ground_truth", 1),
    "match-labels": lambda d: d.match_labels(filter=F("label") == "cat", fields="ground_truth"),
    "contains": lambda d: d.match(F("ground_truth.detections.label").contains("cat")),
    "some-filtered": lambda d: d.match(
        F("ground_truth.detections").filter(F("label") == "dog").length() > 0
    ),
    "omit-empty": lambda d: d.exclude_labels(
        ids=d.values("ground_truth.detections.id", unwind=True)[3:9], omit_empty=True
    ).map_labels("ground_truth", {"cat": "dog"}),
    "edited": lambda d: d.map_labels("ground_truth", {"cat": "dog"}),
    "filter-field": lambda d: d.filter_field("ground_truth", F("detections").length() > 1),
    "no-column": lambda d: d.filter_labels("ground_truth", F("bounding_box")[0] > 0.5),
    "lists": lambda d: d.to_patches("ground_truth", keep_label_lists=True),
    "not-in-patches": lambda d: d.to_patches("ground_truth").match(F("number") > 0),
}


def _some(view: Any, how: str) -> Any:
    return getattr(view, how)(view.values("id")[2:7])


@pytest.mark.parametrize("name", SAMPLE_STAGES)
def test_sample_stages(samples: Synced, name: str) -> None:
    samples.check(SAMPLE_STAGES[name](samples.dataset))


@one_engine
@pytest.mark.parametrize("name", NO_SAMPLE_STAGES)
def test_sample_stages_that_do_not_translate(samples: Synced, name: str) -> None:
    samples.check(NO_SAMPLE_STAGES[name](samples.dataset), translates=False)


@pytest.mark.parametrize("name", PATCH_STAGES)
def test_patch_stages(patches: Synced, name: str) -> None:
    patches.check(PATCH_STAGES[name](patches.dataset))


@one_engine
@pytest.mark.parametrize("name", NO_PATCH_STAGES)
def test_patch_stages_that_do_not_translate(patches: Synced, name: str) -> None:
    patches.check(NO_PATCH_STAGES[name](patches.dataset), translates=False)


@settings(SLOW, max_examples=8)
@given(of_labels=LABEL_EXPRESSIONS, of_patches=LABEL_EXPRESSIONS)
def test_expressions_over_patches(patches: Synced, of_labels: Any, of_patches: Any) -> None:
    view = patches.dataset.filter_labels("ground_truth", of_labels).to_patches("ground_truth")
    patches.check(view.filter_labels("ground_truth", of_patches))


# The App's sidebar ----------------------------------------------------------------------------

BOTH = [{"exclude": exclude, "isMatching": match} for exclude in (False, True) for match in (0, 1)]


def _sidebar(path: str, given: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, {**given, **how, "isMatching": bool(how["isMatching"])}) for how in BOTH]


SIDEBAR = [
    *_sidebar("tags", {"values": ["train", "test"]}),
    *_sidebar("text", {"values": ["cat", 'say "hi"']}),
    *_sidebar("text", {"values": ["cat", None]}),
    *_sidebar("words", {"values": ["cat", "cats"]}),
    *_sidebar("number", {"range": [0, 2], "none": False}),
    *_sidebar("score", {"range": [None, 1.0], "none": True, "nan": False, "inf": False}),
    *_sidebar("score", {"none": False, "nan": False, "inf": True, "ninf": True}),
    *_sidebar("metadata.width", {"range": [600, None], "none": False}),
    *_sidebar("flag", {"true": True, "false": False}),
    *_sidebar("flag", {"true": False, "false": False}),
    *_sidebar("at", {"range": [0, 1709208000123], "none": False}),
    *_sidebar("weather.label", {"values": ["cat"]}),
]
LABEL_SIDEBAR = _sidebar("label", {"values": ["cat", "dog"]})
MORE_LABEL_SIDEBAR = [
    *_sidebar("label", {"values": ["cat", None]}),
    *_sidebar("confidence", {"range": [0.2, 0.6], "none": False}),
    *_sidebar("confidence", {"range": [0.2, 0.6], "none": True}),
    *_sidebar("count", {"range": [0, 2], "none": False}),
    *_sidebar("mood", {"values": ["good"]}),
]


def _app(view: Any, path: str, given: dict[str, Any]) -> Any:
    dataset = view._root_dataset
    return get_view(dataset, stages=view.view()._serialize(), filters={path: dict(given)})


@one_engine
@pytest.mark.parametrize(("path", "chosen"), SIDEBAR)
def test_sidebar(samples: Synced, path: str, chosen: dict[str, Any]) -> None:
    samples.check(_app(samples.dataset, path, chosen))


@one_engine
@pytest.mark.parametrize(("path", "chosen"), LABEL_SIDEBAR)
def test_sidebar_of_labels(samples: Synced, path: str, chosen: dict[str, Any]) -> None:
    samples.check(_app(samples.dataset, f"ground_truth.detections.{path}", chosen))


@one_engine
@pytest.mark.parametrize(("path", "chosen"), LABEL_SIDEBAR + MORE_LABEL_SIDEBAR)
def test_sidebar_of_patches(patches: Synced, path: str, chosen: dict[str, Any]) -> None:
    view = patches.dataset.to_patches("ground_truth")
    patches.check(_app(view, f"ground_truth.{path}", chosen))


@one_engine
@pytest.mark.parametrize("chosen", BOTH)
def test_sidebar_of_label_tags(patches: Synced, chosen: dict[str, Any]) -> None:
    view = patches.dataset.to_patches("ground_truth")
    given = {"values": ["seen"], **chosen}
    patches.check(_app(view, "_label_tags", given))


@one_engine
def test_saved_and_reloaded_views(samples: Synced) -> None:
    view = samples.dataset.match(F("text") == "cat").exists("number")
    samples.dataset.save_view("translated", view, overwrite=True)
    samples.check(samples.dataset.load_saved_view("translated"))


def test_dates_and_times(samples: Synced) -> None:
    for moment in (NOON, NOON + timedelta(milliseconds=1), NOON - timedelta(microseconds=1)):
        for compare in COMPARISONS:
            samples.check(samples.dataset.match(compare(F("at"), moment)))
