"""The page of parameters: of an index, of its type, and of its methods."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from docs.generate.docstrings import arguments, markdown

from fiftyone_milvus import moving
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.connection import CREDENTIALS
from fiftyone_milvus.everywhere import search_everywhere
from fiftyone_milvus.index import AGGREGATIONS, MilvusSimilarityIndex
from fiftyone_milvus.schema.index_types import BUILD, DEFAULT_BUILD, SEARCH, Names

_HEAD = """\
# Parameters

<!-- Written by `make reference`; change the code instead. -->

## Of an index

Pass these to `fiftyone.brain.compute_similarity(..., backend="milvus")`, together with
[FiftyOne's own](https://docs.voxel51.com/api/fiftyone.brain.html#fiftyone.brain.compute_similarity) (`brain_key`, `model`,
`embeddings`, `patches_field`, ...). They are stored with the run. You can also set them in FiftyOne's brain config, as
`similarity_backends.milvus.NAME`, or in the environment, as `FIFTYONE_BRAIN_SIMILARITY_MILVUS_NAME`.
"""

_CONNECTION = """\
## Where Milvus is

Pass these to `compute_similarity()` and to `load_brain_results()`. They are never stored with a run. See
[Connecting](connecting.md).
"""

_TYPES = """\
## Index types

The table shows the parameters of `index_params` and `search_params`, and the values of each. Values in **bold** are the
defaults of this package. `ef`, `nprobe` and `search_list` say how much of an index a search compares; they grow with the
number of results. [Sizing](sizing.md) says which index fits which size. If an engine does not have a type, you get an
error before anything is created.
"""

_EMBEDDED = """\
On the embedded engine:

- `FLAT` compares every vector at any size.
- `IVF_RABITQ` finds candidates by codes of a bit for each dimension, and re-ranks them by the vectors themselves, so that distances
  are exact. `refine` is on unless you say `False`, and `refine_k` is 10, because re-ranking takes no memory there;
  `refine_type` makes no difference. With `refine` off, only as many candidates as results are found, and re-ranked. `rbq_query_bits` 0 is
  answered as 8, which finds the same candidates in a fiftieth of the time. Segments of less than 1,024 vectors, searches in views,
  and vectors that still wait for their codes are compared exactly. Recall grows with `nprobe` and `refine_k`: `index.tune()` finds `nprobe`.
- `HNSW`, `HNSW_SQ`, `IVF_FLAT` and `IVF_SQ8` are kept in memory while a collection has less than 256 MB of vectors. From then on
  they are answered by the codes of `AUTOINDEX`, in bounded memory, with a recall of at least 0.99 whatever `ef` or `nprobe` is.
"""

_METHODS = """\
## Methods of an index

The index that `compute_similarity()` and `load_brain_results()` return has these methods, in addition to
[FiftyOne's](https://docs.voxel51.com/api/fiftyone.brain.similarity.html). The [Python reference](reference.md) describes
their arguments.
"""

_OWN = (
    "search", "explain", "sync", "sync_fields", "iter_embeddings", "evaluate", "tune", "compare",
    "nearest_distances", "find_groups", "find_leaks", "check_new",
    "predict_labels", "find_label_errors", "compute_uniqueness",
    "compute_representativeness", "map", "use_model",
)  # fmt: skip
_MOVING = ("adoptable", "adopt", "revert", "migrate", "export_index", "import_index")


def page() -> str:
    """Returns the page."""
    entries = [a for a in arguments(MilvusSimilarityConfig) if not a.name.startswith("*")]
    parts = [
        _HEAD + "\n" + _table(a for a in entries if a.name not in CREDENTIALS),
        _CONNECTION + "\n" + _table(a for a in entries if a.name in CREDENTIALS),
        _TYPES + "\n" + "\n".join(_types()),
        _EMBEDDED,
        _METHODS + "\n" + "\n".join(_methods()),
        "With several queries, `aggregation=` is one of "
        + ", ".join(f"`{name}`" for name in AGGREGATIONS)
        + ".",
        "## Functions\n\n" + "\n".join(_functions()),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _table(entries: Any) -> str:
    rows = ["| parameter | default | |", "| --- | --- | --- |"]
    rows += [
        f"| `{a.name}` | `{a.default}` | {a.text.replace('|', chr(92) + '|')} |" for a in entries
    ]
    return "\n".join(rows)


def _types() -> Iterator[str]:
    yield "| `index_type` | `index_params` | `search_params` |"
    yield "| --- | --- | --- |"
    for name, build in BUILD.items():
        defaults = DEFAULT_BUILD.get(name, {})
        yield f"| `{name}` | {_names(build, defaults)} | {_names(SEARCH[name], {})} |"


def _names(names: Names | None, defaults: dict[str, Any]) -> str:
    if names is None:
        return "any"
    shown = []
    for name, allowed in names.items():
        default = f" **{defaults[name]}**" if name in defaults else ""
        shown.append(
            f"`{name}`{default} ({_allowed(allowed)})" if allowed else f"`{name}`{default}"
        )
    return ", ".join(shown) or "none"


def _allowed(allowed: Any) -> str:
    if allowed is bool:
        return "`True` or `False`"
    if isinstance(allowed[0], str):
        return ", ".join(allowed)
    low, high = allowed
    return f"at least {low}" if high >= 2**31 - 1 else f"{low} to {high}"


def _methods() -> Iterator[str]:
    yield "| | |"
    yield "| --- | --- |"
    for name in _OWN:
        yield _row(f"{name}", getattr(MilvusSimilarityIndex, name))
    for name in ("client", "collection", "fields"):
        yield f"| `{name}` | {_summary(getattr(MilvusSimilarityIndex, name))} |"


def _functions() -> Iterator[str]:
    yield "| | |"
    yield "| --- | --- |"
    yield _row("fiftyone_milvus.search_everywhere", search_everywhere)
    for name in _MOVING:
        yield _row(f"fiftyone_milvus.moving.{name}", getattr(moving, name))


def _row(name: str, function: Any) -> str:
    shown = [
        str(p.replace(annotation=inspect.Parameter.empty))
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]
    return f"| `{name}({', '.join(shown)})` | {_summary(function)} |"


def _summary(thing: Any) -> str:
    return markdown(inspect.getdoc(thing).splitlines()[0])
