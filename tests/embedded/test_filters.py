"""Filters over stored columns: the embedded engine's answer is plain Milvus Lite's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient

from fiftyone_milvus.embedded.executor.kept_masks import KeptMasks
from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError, View
from fiftyone_milvus.embedded.executor.long_lists import take_out
from fiftyone_milvus.embedded.markers import SAME, name_of
from fiftyone_milvus.embedded.storage.segments import MappedSegment
from tests.embedded.test_executor import DIM, Engine, Pair, assert_same_hits, count, hits

WORDS = ["cat", "dog", "", "cat\n", 'a"b', "a\\b", "a'b", "[x]", "日本", "🦁", '"]']
NUMBERS = [-(2**62), -7, -1, 0, 1, 2, 7, 2**53 + 1, 2**63 - 1]
FLOATS = [-1.7976931348623157e308, -1.5, -0.0, 0.0, 0.1, 2.0, 7.25, 1e300]
SINGLES = [None, -1.5, 0.1, 7.25, 16777217.0]
FIELDS = ["pk", "sample_id", "a", "a_set", "n", "i8", "f", "f32", "maybe", "tags", "boxes"]


def create(client: MilvusClient, name: str, *, nullable: bool = False) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("sample_id", DataType.VARCHAR, max_length=64)
    schema.add_field("a", DataType.VARCHAR, max_length=64)
    schema.add_field("a_set", DataType.BOOL)
    schema.add_field("n", DataType.INT64)
    schema.add_field("i8", DataType.INT8)
    schema.add_field("f", DataType.DOUBLE)
    schema.add_field("f32", DataType.FLOAT, nullable=True)
    schema.add_field("maybe", DataType.VARCHAR, max_length=64, nullable=True)
    strings = {"element_type": DataType.VARCHAR, "max_capacity": 5, "max_length": 64}
    schema.add_field("tags", DataType.ARRAY, nullable=nullable, **strings)
    schema.add_field("boxes", DataType.ARRAY, **strings)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=index_params)
    client.load_collection(name)


def random_rows(numbers: Any, rng: np.random.Generator) -> list[dict[str, Any]]:
    def some() -> list[str]:
        return [WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(0, 4))]

    return [
        {
            "pk": f"k{i}",
            "vector": rng.standard_normal(DIM).astype(np.float32),
            "sample_id": f"s{i % 6}",
            "a": WORDS[rng.integers(len(WORDS))],
            "a_set": bool(rng.integers(2)),
            "n": NUMBERS[rng.integers(len(NUMBERS))],
            "i8": int(rng.integers(-128, 128)),
            "f32": SINGLES[rng.integers(len(SINGLES))],
            "f": [*FLOATS, float("-inf"), float("nan")][rng.integers(len(FLOATS) + 2)],
            "maybe": [None, *WORDS][rng.integers(len(WORDS) + 1)],
            "tags": some(),
            "boxes": some(),
        }
        for i in numbers
    ]


def contents(client: MilvusClient, name: str, expr: str = "") -> dict[str, str]:
    found = client.query(name, filter=expr, output_fields=FIELDS)
    assert len({r["pk"] for r in found}) == len(found)
    # As text: NaN is not equal to itself.
    return {
        r["pk"]: repr([list(r[f]) if f in LISTS and r[f] is not None else r[f] for f in FIELDS])
        for r in found
    }


LISTS = ("tags", "boxes")


def text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def one_of(*options: str) -> st.SearchStrategy[str]:
    return st.sampled_from(options)


words = st.sampled_from([*WORDS, "nope"])
ops = one_of("==", "!=", "<", "<=", ">", ">=")
negation = one_of("in", "not in")
array = one_of(*LISTS)
long_keys = st.lists(st.integers(0, 99), min_size=70, max_size=90, unique=True).map(
    lambda numbers: text([f"k{i}" for i in numbers])
)
long_numbers = st.lists(
    st.sampled_from([*range(-9, 9), 2**53 + 1, 2**53]), min_size=1, max_size=9
).map(lambda numbers: [*numbers, *range(1_000, 1_100)])
ATOMS = st.one_of(
    st.builds(lambda t, w: f"array_contains({t}, {text(w)})", array, words),
    st.builds(
        lambda t, how, w: f"array_contains_{how}({t}, {text(w)})",
        array,
        one_of("any", "all"),
        st.lists(words, max_size=4),
    ),
    st.builds(lambda t, op, i: f"array_length({t}) {op} {i}", array, ops, st.integers(-1, 4)),
    st.builds(lambda t, op, i: f"{i} {op} array_length({t})", array, ops, st.integers(-1, 4)),
    st.builds(lambda t, i, op, w: f"{t}[{i}] {op} {text(w)}", array, st.integers(0, 2), ops, words),
    st.builds(lambda f, op, w: f"{f} {op} {text(w)}", one_of("a", "maybe"), ops, words),
    st.builds(lambda w, op, f: f"{text(w)} {op} {f}", words, ops, one_of("a", "maybe")),
    st.builds(
        lambda f, op, w: f"{f} {op} {text(w)}",
        one_of("a", "maybe"),
        negation,
        st.lists(words, max_size=4),
    ),
    st.builds(lambda op, n: f"n {op} {n}", ops, st.sampled_from(NUMBERS)),
    st.builds(
        lambda op, n: f"n {op} {n}", negation, st.lists(st.sampled_from(NUMBERS), max_size=3)
    ),
    st.builds(lambda op, f: f"f {op} {f!r}", ops, st.sampled_from([*FLOATS, 2, -7])),
    st.builds(lambda op, f: f"f {op} {f}", negation, st.lists(st.sampled_from(FLOATS), max_size=3)),
    st.builds(lambda op, n: f"i8 {op} {n}", ops, st.sampled_from([-129, -1, 5, 300, 0.5])),
    st.builds(lambda op, ns: f"i8 {op} {ns}", negation, st.lists(st.integers(-130, 130))),
    st.builds(lambda op, f: f"f32 {op} {f!r}", ops, st.sampled_from([*SINGLES[1:], 16777216])),
    st.builds(lambda op, fs: f"f32 {op} {fs}", negation, st.lists(st.sampled_from(SINGLES[1:]))),
    st.builds(
        lambda f, pattern: f"{f} like {text(pattern)}",
        one_of("a", "maybe", "pk"),
        st.text("%_ca.t\\\n🦁*", max_size=5),
    ),
    st.builds(lambda op, b: f"a_set {op} {b}", one_of("==", "!="), one_of("true", "false")),
    one_of("a_set", "maybe is null", "maybe is not null", 'a like "c%"', "a == maybe", "n + 1 > 2"),
    one_of("f32 is null", "f32 * 2 > 0.2", "a != a", "i8 > f", "maybe == maybe", "i8 / 2 == 1.5"),
    st.builds(lambda op, keys: f"pk {op} {keys}", negation, long_keys),
    st.builds(lambda op, keys: f"pk {op} {keys}", negation, one_of('["k1", "k2"]', "['k3']", "[]")),
    st.builds(lambda op, keys: f"{op}({keys})", one_of("not", "!"), one_of('pk == "k1"', "n < 1")),
    st.builds(lambda keys: f"array_contains_any(tags, {keys})", long_keys),
    st.builds(lambda f, op, ns: f"{f} {op} {ns}", one_of("n", "i8", "f"), negation, long_numbers),
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(
            lambda a, op, b: f"({a}) {op} ({b})", inner, one_of("and", "or", "&&", "||"), inner
        ),
        st.builds(lambda a, op, b: f"{a} {op} {b}", inner, one_of("and", "or"), inner),
        st.builds(lambda a: f"not ({a})", inner),
    ),
    max_leaves=6,
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            one_of("insert", "upsert", "delete"),
            st.lists(st.integers(0, 40), min_size=1, max_size=25),
        ),
        st.tuples(one_of("flush"), st.just([0])),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("engines"))
    yield pair
    pair.close()


@pytest.fixture(autouse=True)
def _no_silent_failures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "fast path failed" not in caplog.text
    assert "can't follow a write" not in caplog.text


@pytest.mark.parametrize("encoded", [False, True])
@given(
    expressions=st.lists(EXPRESSIONS, min_size=8, max_size=8),
    operations=OPERATIONS,
    seed=st.integers(0, 999),
)
@settings(max_examples=40)
def test_any_expression_means_what_it_means_in_milvus_lite(
    pair: Pair, encoded: bool, expressions: list[str], operations: Any, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if encoded:  # Small files have no column of which all strings are in a dictionary
            columns = {"pk", "sample_id", "a", "maybe"}
            patch.setattr(
                MappedSegment, "_repeating", lambda _, names: [n for n in names if n in columns]
            )
        compare(pair, expressions, operations, seed)


def compare(pair: Pair, expressions: list[str], operations: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for client in pair.clients:
        if client.has_collection("any"):  # pymilvus takes half a second to make one
            client.delete("any", filter='pk != ""')
        else:
            create(client, "any")
    for operation, numbers in [("insert", range(0, 50, 2)), *operations]:
        if operation == "flush":
            pair.flush("any")
            continue
        data = random_rows(numbers, rng)
        for client in pair.clients:
            if operation == "delete":
                client.delete("any", ids=[r["pk"] for r in data])
            else:
                getattr(client, operation)("any", data)
    pair.both(lambda c: contents(c, "any"))
    for expr in expressions:
        pair.both(lambda c, e=expr: contents(c, "any", e))
        pair.both(lambda c, e=expr: count(c, "any", e))


SAMPLES = [
    'array_contains(tags, "cat")',
    'not array_contains_all(tags, ["cat", "dog"]) and array_length(boxes) > 0',
    'array_contains_any(tags, ["cat", "[x]"]) or (a == "dog" and a_set == true)',
    f"pk in {text([f'k{i}' for i in range(300)])} and (array_length(tags) == 0)",
    'f < 2.5 and n in [1, 2] and a not in ["cat"] and array_contains(boxes, "🦁")',
]


def test_searches_and_deletes_by_these_filters(pair: Pair) -> None:
    rng = np.random.default_rng(1)
    data = random_rows(range(400), rng)
    for client in pair.clients:
        create(client, "searched")
        client.insert("searched", data[:300])
    pair.flush("searched")
    for client in pair.clients:
        client.upsert("searched", data[200:])
    queries = [data[0]["vector"], data[-1]["vector"]]
    for expr in SAMPLES:
        mine, theirs = pair.each(lambda c, e=expr: hits(c, "searched", queries, filter=e))
        assert_same_hits(mine, theirs)
        assert mine[0]
    for expr in SAMPLES:
        for client in pair.clients:
            client.delete("searched", filter=expr)
        pair.both(lambda c: contents(c, "searched"))
    assert 0 < pair.both(lambda c: count(c, "searched")) < 400


@pytest.mark.parametrize(
    "expr",
    [
        'array_contains(tags, ["cat"])',
        "array_contains(tags, 3)",
        "array_contains(tags, true)",
        "array_contains_all(tags, [1, 2])",
        "array_contains_all(tags, [])",
        'array_contains_any(tags, "cat")',
        "array_contains(tags, a)",
        "array_contains(a, 'cat')",
        "array_contains(nope, 'cat')",
        "array_length(tags) == 'x'",
        "array_length(tags) > 0.5",
        "array_length(tags) + 1 > 2",
        "array_length(tags) < 1000000000000000000000000000000",
        "array_length(tags)",
        "array_length(a) == 0",
        "tags == 3",
        "n in [1.0, 7] and array_length(tags) == 0",
        "n > 9223372036854775808 or array_length(tags) == 0",
        "n < 0.5 or array_length(tags) == 0",
        "true and array_length(tags) == 0",
        f"n in {text([f'k{i}' for i in range(100)])} or a_set",
        f"pk in {text([f'k{i}' for i in range(100)])} or ",
        f"pk in {text([f'k{i}' for i in range(100)])[:-1]} or a_set",
        f"maybe not in {text([f'k{i}' for i in range(100)])} and a_set",
        f"maybe not in {text([f'k{i}' for i in range(100)])} and array_length(tags) > 0",
    ],
)
def test_odd_and_wrong_expressions(pair: Pair, expr: str) -> None:
    if not pair.fast.client.has_collection("odd"):
        data = random_rows(range(40), np.random.default_rng(3))
        for client in pair.clients:
            create(client, "odd")
            client.insert("odd", data)
    pair.both(lambda c: contents(c, "odd", expr))


def test_lists_are_refused_alike(pair: Pair) -> None:
    data = random_rows(range(3), np.random.default_rng(2))
    data[1]["tags"] = ["x"] * 6
    for client in pair.clients:
        create(client, "refused")
    assert pair.both(lambda c: c.insert("refused", data))[0] == "MilvusException"
    assert pair.both(lambda c: count(c, "refused")) == 0


def test_nullable_lists_are_milvus_lites(pair: Pair) -> None:
    data = random_rows(range(30), np.random.default_rng(4))
    for row in data[::3]:
        row["tags"] = None
    for client in pair.clients:
        create(client, "nullable", nullable=True)
        client.insert("nullable", data)
    for _ in range(2):
        for expr in (*SAMPLES, "array_length(tags) == 0", "not array_contains_all(tags, [])"):
            pair.both(lambda c, e=expr: contents(c, "nullable", e))
        pair.flush("nullable")


def test_lists_are_read_by_plain_milvus_lite(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data.db", fast=True)
    data = random_rows(range(60), np.random.default_rng(5))
    create(engine.client, "c")
    engine.client.insert("c", data[:40])
    engine.flush("c")
    engine.client.upsert("c", data[30:])
    written = contents(engine.client, "c")
    assert len(written) == 60
    assert engine.servicer.delegated == {}
    engine.close()
    for fast in (False, True):
        engine = Engine(tmp_path / "data.db", fast=fast)
        engine.client.load_collection("c")
        assert contents(engine.client, "c") == written
        engine.close()


def test_common_filters_are_never_evaluated_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from milvus_lite.search.filter import eval as backends

    by_row: list[int] = []
    original = backends.evaluate_python
    monkeypatch.setattr(
        backends,
        "evaluate_python",
        lambda filter_, table: by_row.append(len(table)) or original(filter_, table),
    )
    engine = Engine(tmp_path / "data.db", fast=True)
    create(engine.client, "c")
    engine.client.insert("c", random_rows(range(200), np.random.default_rng(6)))
    others = ('a like "c%"', 'pk like "k_"', "maybe is null", 'tags[0] == "cat"', "n + 1 > 2")
    for _ in range(2):
        for expr in (*SAMPLES, *(f"array_length(tags) > 0 and {other}" for other in others)):
            contents(engine.client, "c", expr)
            count(engine.client, "c", expr)
            hits(engine.client, "c", [[1.0] * DIM], filter=expr)
        engine.flush("c")
    # But once for each value of a column, and for null
    assert 0 < max(by_row) <= len(WORDS) + 1
    assert engine.servicer.delegated == {}
    contents(engine.client, "c", "array_length(tags) > 0 and a == maybe")
    assert max(by_row) == 200
    engine.close()


@given(
    pieces=st.lists(
        st.one_of(
            st.lists(st.text(max_size=12), max_size=200).map(text),
            st.lists(st.text("abc0", max_size=12), min_size=60, max_size=90).map(text),
            st.lists(st.integers(-(2**60), 2**60), min_size=40, max_size=90).map(text),
            st.text('"[]\\, a', max_size=9),
            st.text(max_size=9).map(text),
        )
    )
)
def test_long_lists_leave_what_they_were(pieces: list[str]) -> None:
    expr = " or pk in ".join(pieces)
    short, lists = take_out(expr)
    for name, values in lists.items():
        assert short.count(f"[{text(name)}]") == 1
        short = short.replace(f"[{text(name)}]", text(values))
    assert short == expr


def test_lists_of_integers_are_cut_out_where_all_are_ones() -> None:
    numbers = list(range(-5, 300))
    short, lists = take_out(f"n in {numbers} and not (n in {numbers[::-1]})")
    assert len(short) < 80
    assert list(lists.values()) == [numbers, numbers[::-1]]
    for odd in ("1.5", "x", "", "2" * 19, "01", "- 1", "1 2", "+1", "'a'", "[1]"):
        expr = f"n in {str(numbers)[:-1]}, {odd}]"
        assert take_out(expr) == (expr, {}), odd
    assert take_out(f'a == "{numbers}"') == (f'a == "{numbers}"', {})
    known = f"n in {numbers} or n == {next(iter(lists))}"
    assert take_out(known) == (known, {})


def test_a_list_within_a_string_is_text() -> None:
    long = text([f"k{i}" for i in range(100)])
    for expr in (f"a == {text(long)}", f"a == '{long}'"):
        assert take_out(expr) == (expr, {})
    short, lists = take_out(f"a == {text(']')} and pk in {long} or a in {long}")
    assert len(short) < 60
    assert list(lists.values()) == [json.loads(long)] * 2


def test_long_lists_are_read_once_for_each_state_of_the_rows() -> None:
    kept, one, other = KeptMasks(), View((), None, 0, 0, 0), View((), None, 0, 1, 0)
    evaluated: list[str] = []

    def ask(view: View, expr: str) -> None:
        kept.get(view, expr, lambda: [evaluated.append(expr)])  # type: ignore[func-returns-value]

    long = f"pk in {text([f'k{i}' for i in range(9000)])}"
    for view, expr, times in (
        (one, long, 1),
        (one, long, 1),
        (other, long, 2),
        (one, long.replace("k7", "j7"), 3),
        (one, "pk in ['a']", 4),
        (one, "pk in ['a']", 5),
        (one, f"{long} or a > 3 and b in [1]", 6),
        (one, f"{long} or a > 3 and b in [1]", 7),
        *((one, f"n not in [{i}, {'1, ' * 20_000}]", 8 + i) for i in range(4)),
        (one, long, 12),
    ):
        ask(view, expr)
        assert len(evaluated) == times, expr[:40]
    ask(one, SAME + name_of(long))
    assert len(evaluated) == 12
    for view, name in ((other, name_of("pk in ['a']")), (one, name_of(long.replace("k7", "j7")))):
        with pytest.raises(UnsupportedError):
            ask(view, SAME + name)


def test_long_lists_see_what_was_written(pair: Pair) -> None:
    rng = np.random.default_rng(2)
    data = random_rows(range(40), rng)
    expr = f"pk in {text([row['pk'] for row in data] + [f'none{i}' for i in range(4000)])}"
    queries = [data[0]["vector"]]
    for client in pair.clients:
        create(client, "written")
        client.insert("written", data[:20])
    for change in (
        lambda c: None,
        lambda c: c.insert("written", data[20:]),
        lambda c: c.delete("written", filter=f"pk == {text(data[3]['pk'])}"),
        lambda c: c.upsert("written", [{**data[5], "vector": data[0]["vector"]}]),
    ):
        for client in pair.clients:
            change(client)
        for _ in range(2):
            mine, theirs = pair.each(lambda c: hits(c, "written", queries, filter=expr))
            assert_same_hits(mine, theirs)
