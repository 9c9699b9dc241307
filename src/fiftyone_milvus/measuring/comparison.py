"""Index types compared: recall, latency, build time and memory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.measuring.recall import CONFIDENCE
from fiftyone_milvus.measuring.tables import milliseconds, table
from fiftyone_milvus.measuring.tuning import as_text
from fiftyone_milvus.output_paths import check_output
from fiftyone_milvus.schema import support
from fiftyone_milvus.schema.index_types import BUILD, build_params, check_index, check_metric

_DISK_FROM = 1_000_000
_LISTS = 1_024
_LISTS_PER_ROOT = 4


@dataclass(frozen=True)
class Compared:
    """The figures of one index type; None where nothing was measured, which ``error`` explains.

    Attributes:
        index_type: for example ``"HNSW"``
        index_params: the build parameters
        search_params: those of the searches, if they are not the defaults; where they were tuned,
            with the ``"k"`` that they are for, as a config takes them
        recall: the share of the true ``k`` nearest that were found, in [0, 1]
        p50: the median seconds of a search for one query
        p95: the seconds that 95 % of these searches took at most
        build_seconds: the seconds to upload the vectors, seal them, build the index and load it
        bytes: the memory of the index with the vectors in it, estimated by
            :func:`fiftyone_milvus.measuring.memory.estimate`; None if that is unknown
        reached: whether the recall that was asked for is reached; None if none was asked for
        error: one line that says why there are no figures, or None
        bound: the recall that all possible queries reach at least, with a confidence of 95 %; 1.0
            where searches are exact
    """

    index_type: str
    index_params: Mapping[str, Any]
    search_params: Mapping[str, Any] = field(default_factory=dict)
    recall: float | None = None
    p50: float | None = None
    p95: float | None = None
    build_seconds: float | None = None
    bytes: int | None = None
    reached: bool | None = None
    error: str | None = None
    bound: float | None = None

    @property
    def label(self) -> str:
        """The index type and its build parameters as text."""
        said = as_text(self.index_params) if self.index_params else ""
        return f"{self.index_type} {said}".strip()


@dataclass(frozen=True)
class Comparison(Sequence[Compared]):
    """Index types compared: a sequence of :class:`Compared`.

    Made by :meth:`MilvusSimilarityIndex.compare()
    <fiftyone_milvus.index.MilvusSimilarityIndex.compare>`.

    Attributes:
        rows: one for each index type
        vectors: the number of vectors in each
        dimension: the dimension of the vectors
        metric: FiftyOne's name of the metric
        k: the number of neighbors that each query asked for
        queries: the number of queries
        engine: for example ``"Milvus Lite 3.2.2"``
        target: the recall that search parameters were tuned to, or None
    """

    rows: Sequence[Compared]
    vectors: int
    dimension: int
    metric: str
    k: int
    queries: int
    engine: str
    target: float | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: Any) -> Any:
        return self.rows[item]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns each row as a dict that JSON can hold."""
        return [dataclasses.asdict(row) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        recall, times = f"recall@{self.k}", ("p50 ms", "p95 ms", "build s")
        columns = ("index", "search_params", recall, "at least", *times, "MB")
        lines = [
            self._title,
            *table(columns, [_cells(row) for row in self.rows if row.error is None]),
            *(f"{row.label}: {row.error}" for row in self.rows if row.error is not None),
        ]
        if any(row.bytes is not None for row in self.rows):
            lines.append(
                f"Recalls hold with {CONFIDENCE:.0%} confidence. Memory (MB) is estimated."
            )
        missed = [row.label for row in self.rows if row.reached is False]
        if missed:
            lines.append(f"The recall is not reached by {', '.join(missed)}.")
        return "\n".join(lines)

    @property
    def _title(self) -> str:
        aim = "" if self.target is None else f", tuned to a recall of {self.target:g}"
        return (
            f"{self.vectors:,} vectors x {self.dimension}, {self.metric}, {self.queries:,} "
            f"queries{aim}, {self.engine}"
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws recall over latency into an image file.

        Args:
            path: the path of the file; its ending says the format, for example ``.png``

        Raises:
            FiftyOneMilvusError: if matplotlib is not installed
            InvalidInputError: if there is nothing to draw, or the file can't be written
        """
        rows = [row for row in self.rows if row.error is None]
        if not rows:
            raise InvalidInputError(
                "There is nothing to draw, as no index type could be measured; print the "
                "comparison to see why"
            )
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise FiftyOneMilvusError(
                "A plot needs matplotlib, which is not installed; pip install matplotlib"
            ) from None
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            assert row.p50 is not None
            assert row.recall is not None
            axes.plot(1e3 * row.p50, row.recall, "o", markersize=8, color="#00a1ea")
            if row.bound is not None:
                axes.plot([1e3 * row.p50] * 2, [row.bound, row.recall], color="#00a1ea")
            label: dict[str, Any] = {"xytext": (8, 4), "textcoords": "offset points", "fontsize": 8}
            axes.annotate(row.label, (1e3 * row.p50, row.recall), **label)
        if self.target is not None:
            axes.axhline(self.target, linestyle="--", color="#d9d9d9")
        axes.set_xlabel("median latency of a search, ms")
        axes.set_ylabel(f"recall@{self.k}, down to its lower bound")
        axes.set_title(self._title, fontsize=9, loc="left")
        axes.set_xlim(left=0)
        axes.margins(x=0.25, y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        path = check_output(path)
        try:
            figure.savefig(path, dpi=120)
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"Can't write the plot to '{path}': {error}") from None


class Candidate(NamedTuple):
    """An index type to compare.

    Attributes:
        index_type: for example ``"HNSW"``
        index_params: the build parameters, with the defaults
        search_params: those that the user gave
    """

    index_type: str
    index_params: dict[str, Any]
    search_params: dict[str, Any]


def candidates(
    index_types: Any, connection: Connection, metric: str, rows: int, dimension: int
) -> list[Candidate]:
    """Returns the index types to compare.

    Args:
        index_types: an iterable of index types, of pairs of one and its build parameters, or of
            dicts with the keys of :class:`Candidate`; None for those that suit the engine
        connection: a connection to the engine that builds them
        metric: FiftyOne's name of the metric
        rows: the number of vectors
        dimension: the dimension of the vectors

    Raises:
        InvalidInputError: if one is unknown, or its parameters can't be used
    """
    if index_types is None:
        usual = _usual(connection.engine.lite, rows, dimension)
        return [one for one in usual if not_offered(one, connection, metric) is None]
    if isinstance(index_types, (str, Mapping)) or not isinstance(index_types, Iterable):
        index_types = [index_types]
    given = list(index_types)
    if not given:
        raise InvalidInputError(
            "No index_types to compare; give some, such as ['HNSW', 'IVF_FLAT']"
        )
    return [_parse(one, dimension) for one in given]


def not_offered(candidate: Candidate, connection: Connection, metric: str) -> str | None:
    """Returns one line that says why an engine can't build an index, or None if it can."""
    try:
        # An engine may accept it, and build none or another one
        support.check_offered(connection, candidate.index_type, candidate.index_params)
        check_metric(candidate.index_type, metric)
    except InvalidInputError as error:
        return str(error)
    return None


def _parse(given: Any, dimension: int) -> Candidate:
    build: Any = None
    search: Any = None
    if isinstance(given, Mapping):
        unknown = sorted(set(map(str, given)) - set(Candidate._fields))
        if unknown or "index_type" not in given:
            raise InvalidInputError(
                f"Invalid index type {dict(given)!r}; expected a dict with 'index_type' and, if "
                "needed, 'index_params' and 'search_params'"
            )
        kind, build = given["index_type"], given.get("index_params")
        search = given.get("search_params")
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        kind, build = given
    else:
        kind = given
    if not isinstance(kind, str):
        raise InvalidInputError(
            f"Invalid index type {given!r}; expected one of {', '.join(BUILD)}, or a pair of one "
            "and its index_params"
        )
    name, build, search = check_index(kind, build, search)
    return Candidate(str(name), build_params(str(name), build, dimension), dict(search or {}))


def _usual(lite: bool, rows: int, dimension: int) -> list[Candidate]:
    if lite:
        names = ["AUTOINDEX", "FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "IVF_RABITQ"]
    else:
        names = ["FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "SCANN"]
        if rows >= _DISK_FROM:
            names.append("DISKANN")
    # With few vectors, more lists would hold too few of them to be worth the centroids
    lists = {"nlist": min(_LISTS, max(1, round(_LISTS_PER_ROOT * rows**0.5)))}
    given = {name: lists if "nlist" in (BUILD[name] or {}) else {} for name in names}
    return [Candidate(name, build_params(name, given[name], dimension), {}) for name in names]


def _cells(row: Compared) -> tuple[str, ...]:
    return (
        row.label,
        as_text(row.search_params),
        "" if row.recall is None else f"{row.recall:.4f}",
        "" if row.bound is None else f"{row.bound:.4f}",
        milliseconds(row.p50),
        milliseconds(row.p95),
        "" if row.build_seconds is None else f"{row.build_seconds:.1f}",
        "" if row.bytes is None else f"{row.bytes / 1e6:,.1f}",
    )
