"""Milvus Lite's gRPC servicer with fast paths for the common requests.

A fast path either gives the answer of Milvus Lite or does nothing and leaves the request to it.
Every request that is not valid is left to Milvus Lite, so that errors are its own.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from milvus_lite.adapter.grpc import MilvusServicer
from milvus_lite.adapter.grpc.errors import success_status_kwargs, to_status_kwargs
from milvus_lite.engine import collection as lite_collection
from milvus_lite.engine.operation import InsertOp
from milvus_lite.engine.projection import build_projection_plan, projection_output_fields
from milvus_lite.exceptions import MilvusLiteError, SchemaValidationError
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.executor import (
    candidates,
    columns,
    farthest,
    filters,
    in_lists,
    scan,
    vector_indexes,
)
from fiftyone_milvus.embedded.executor.candidates import Coded
from fiftyone_milvus.embedded.executor.live_rows import (
    LiveView,
    UnsupportedError,
    View,
    maintenance,
)
from fiftyone_milvus.embedded.executor.parts import LivePart, Mask
from fiftyone_milvus.embedded.executor.plain import PlainServicer, with_own_types
from fiftyone_milvus.embedded.executor.requests import SearchRequest, read_query, read_search
from fiftyone_milvus.embedded.executor.vectors import Rows
from fiftyone_milvus.embedded.locks import Call, Collection, Locks, WaitError
from fiftyone_milvus.embedded.storage import flush

logger = logging.getLogger(__name__)

# A collection is not opened for them
_DESCRIBING = ("DescribeIndex", "GetCollectionStatistics")
_UNBUILT = ("FLAT", "BRUTE_FORCE")


class FastServicer(PlainServicer):
    """Answers searches, queries and writes of plain collections from arrays.

    Nothing else may write to the database. Requests must come through a
    :class:`~fiftyone_milvus.embedded.interceptors.LockingInterceptor`, so that writes come one at
    a time for each collection. The reads in ``unlocked_reads`` run at the same time, and see the
    state before a write until it is complete.

    Args:
        db: an open ``milvus_lite.db.MilvusLite``
    """

    #: Reads that take a lock themselves where they need one.
    unlocked_reads = frozenset({"DescribeIndex", "GetCollectionStatistics", "Query", "Search"})

    def __init__(self, db: Any) -> None:
        super().__init__(db)
        #: Locks of the collections, which writes must hold.
        self.locks = Locks()
        self._views: weakref.WeakKeyDictionary[Any, LiveView] = weakref.WeakKeyDictionary()
        #: Why requests went to Milvus Lite's own code since the start, with counts.
        self.delegated: dict[str, int] = {}

    # reads

    def Search(self, request: Any, context: Any) -> Any:
        """Nearest neighbors."""
        return self._read("Search", self._search, request, context)

    def Query(self, request: Any, context: Any) -> Any:
        """Rows by filter, or their number."""
        return self._read("Query", self._query, request, context)

    def GetCollectionStatistics(self, request: Any, context: Any) -> Any:
        """Number of rows."""
        return self._read("GetCollectionStatistics", self._statistics, request, context)

    def DescribeIndex(self, request: Any, context: Any) -> Any:
        """Indexes, and how many rows have and lack them."""
        return self._read("DescribeIndex", self._describe_index, request, context)

    # writes

    def Insert(self, request: Any, context: Any) -> Any:
        """Writes rows; one with a known key replaces it."""
        return self._write("Insert", self._insert, request, context)

    def Upsert(self, request: Any, context: Any) -> Any:
        """Writes rows; one with all fields and a known key replaces it."""
        return self._write("Upsert", self._insert, request, context)

    def Delete(self, request: Any, context: Any) -> Any:
        """Deletes rows by filter."""
        return self._write("Delete", self._delete, request, context)

    def DropPartition(self, request: Any, context: Any) -> Any:
        """Drops a partition with its rows."""
        return self._write("DropPartition", None, request, context)

    def Flush(self, request: Any, context: Any) -> Any:
        """Moves rows from the memtables into segments."""
        call = Call.of("Flush", context)
        database = self._database_name(request, context)
        with ExitStack() as stack:
            for name in request.collection_names:
                try:
                    col = self._db.get_collection(name, database_name=database)
                except MilvusLiteError:
                    continue
                stack.enter_context(self._live(col).writing(col, call))
                # Held to the end, so that no compaction starts before the new view is made.
                stack.enter_context(maintenance(col, call))
                flush.speed_up_memtable(col)
            response = super().Flush(request, context)
        flush.release_memory()
        return response

    # dispatch

    def _read(
        self, method: str, fast: Callable[[Any, Any, View], Any], request: Any, context: Any
    ) -> Any:
        call = Call.of(method, context)
        database = self._database_name(request, context)
        if method in _DESCRIBING and not self._metadata.is_open(request.collection_name, database):
            return getattr(super(), method)(request, context)
        name = self._db.resolve_collection_name(request.collection_name, database_name=database)
        try:
            return fast(request, *self._view((database, name), call))
        except WaitError:
            raise
        except Exception as error:
            self._count(error)
        with self.locks.reading([(database, name)], call):
            return getattr(super(), method)(request, context)

    def _write(
        self, method: str, fast: Callable[[Any, Any, Call], Any] | None, request: Any, context: Any
    ) -> Any:
        call = Call.of(method, context)
        plain = getattr(super(), method)
        try:
            col = self._get_collection(request, context)
        except Exception:
            return plain(request, context)
        with self._live(col).writing(col, call):
            flush.speed_up_memtable(col)
            if fast is not None:
                try:
                    return fast(request, col, call)
                except WaitError:
                    raise
                except Exception as error:
                    # Nothing was written: all that can fail comes before Milvus Lite's own code.
                    self._count(error)
            return plain(request, context)

    def _count(self, error: Exception) -> None:
        if not isinstance(error, (UnsupportedError, NotImplementedError, MilvusLiteError)):
            logger.warning("fast path failed, Milvus Lite answers", exc_info=error)
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        if len(self.delegated) < 100 or reason in self.delegated:
            self.delegated[reason] = self.delegated.get(reason, 0) + 1

    def _live(self, col: Any) -> LiveView:
        return self._views.get(col) or self._views.setdefault(col, LiveView())

    def _view(self, collection: Collection, call: Call) -> tuple[Any, View]:
        """A collection and its newest complete state; waits only where there is none yet."""
        database, name = collection
        col = self._db._collections.get(collection)
        view = None if col is None else self._live(col).latest
        if view is not None and view.is_current(col):
            return col, view
        try:
            with self.locks.reading([collection], call if view is None else call.at_once()):
                # Milvus Lite's own has no deadline
                waits = {"call": call} if isinstance(self._db, Database) else {}
                opened = self._db.get_collection(name, database_name=database, **waits)
                return opened, self._live(opened).refreshed(opened, call)
        except WaitError:
            if view is None:
                raise
            return col, view

    # searching

    def _search(self, request: Any, col: Any, view: View) -> Any:
        asked = read_search(request, col)
        col._require_loaded()
        plan = build_projection_plan(asked.output_fields, col._schema, api_kind="search")
        hits = _nearest(view, col, asked)
        if asked.offset:
            hits = scan.Hits(hits.rows[:, asked.offset :], hits.scores[:, asked.offset :])
        found = hits.rows >= 0
        rows = hits.rows[found]
        result = schema_pb2.SearchResultData(
            num_queries=len(asked.queries),
            top_k=asked.k,
            fields_data=columns.fields_data(view, rows, col, plan),
            scores=hits.scores[found].tolist(),
            ids=self._build_ids_proto(columns.pks_at(view, rows), col),
            topks=hits.counts.tolist(),
            output_fields=list(projection_output_fields(plan, col._schema, include_primary=True)),
            primary_field_name=col._pk_name,
        )
        return milvus_pb2.SearchResults(
            status=common_pb2.Status(**success_status_kwargs()),
            results=result,
            collection_name=col.name,
        )

    # querying

    def _query(self, request: Any, col: Any, view: View) -> Any:
        asked = read_query(request)
        if asked.output_fields and "count(*)" in asked.output_fields:
            return self._count_rows(request, col, view)
        col._require_loaded()
        plan = build_projection_plan(asked.output_fields, col._schema, api_kind="query")
        keys = None if asked.by_key else _keys(request.expr, col)
        if keys is not None:
            # As get() in Milvus Lite: the order of the keys, whatever the limit.
            rows = in_lists.rows_of(view, keys)
            rows = rows[rows >= 0]
        else:
            rows = _matching(view, col, request.expr, by_key=asked.by_key)
            stop = None if asked.limit is None else asked.offset + asked.limit
            rows = rows[asked.offset : stop]
        return milvus_pb2.QueryResults(
            status=common_pb2.Status(**success_status_kwargs()),
            fields_data=columns.fields_data(view, rows, col, plan),
            collection_name=col.name,
            output_fields=(
                list(projection_output_fields(plan, col._schema, include_primary=True))
                if asked.output_fields is not None
                else []
            ),
            primary_field_name=col._pk_name,
        )

    def _count_rows(self, request: Any, col: Any, view: View) -> Any:
        if request.expr:
            col._require_loaded()
        count = view.count if not request.expr else len(_matching(view, col, request.expr))
        data = schema_pb2.FieldData(field_name="count(*)", type=5)
        data.scalars.long_data.data.append(count)
        return milvus_pb2.QueryResults(
            status=common_pb2.Status(**success_status_kwargs()),
            fields_data=[data],
            collection_name=col.name,
            output_fields=["count(*)"],
        )

    def _statistics(self, request: Any, col: Any, view: View) -> Any:
        count = common_pb2.KeyValuePair(key="row_count", value=str(view.count))
        return milvus_pb2.GetCollectionStatisticsResponse(
            status=common_pb2.Status(**success_status_kwargs()), stats=[count]
        )

    def _describe_index(self, request: Any, col: Any, view: View) -> Any:
        plain = MilvusServicer(self._db)
        counted = _Counted(col, view.count)
        plain._get_collection = lambda request, context: counted
        answer = plain.DescribeIndex(request, None)
        for index in answer.index_descriptions:
            # Milvus Lite builds in the background, and reports all rows as indexed. No index waits
            # to be built for rows that are in no file yet, as on a server for growing segments
            name = index.field_name
            if str(col._index_specs[name].index_type) not in _UNBUILT:
                growing = sum(p.count for p in view.parts if p.part.segment is None)
                waiting = sum(p.count for p in view.parts if not vector_indexes.is_indexed(p, name))
                index.indexed_rows = view.count - waiting
                index.pending_index_rows = waiting - growing
        return with_own_types(answer)

    # writing

    def _insert(self, request: Any, col: Any, call: Call) -> Any:
        partition = request.partition_name or "_default"
        try:
            if not request.num_rows or not _is_plain(col, partition):
                raise UnsupportedError("kind of collection")
            batch, pks = columns.record_batch(
                request.fields_data, request.num_rows, col, partition, col._next_seq
            )
        except SchemaValidationError as exc:
            return _refused(exc)
        except UnsupportedError:
            try:
                columns.reject_not_finite(request.fields_data, request.num_rows)
            except SchemaValidationError as exc:
                return _refused(exc)
            raise
        col._next_seq += request.num_rows
        try:
            col._apply(InsertOp(partition=partition, batch=batch))
            if _should_flush(col):
                # Without it, the rows are in the log, and the next write flushes them.
                with suppress(WaitError), maintenance(col, call):
                    col._trigger_flush()
                flush.release_memory()
        except OSError as exc:
            # A full disk, most likely: Milvus Lite's own code would do no better.
            return _refused(exc)
        count = "upsert_cnt" if isinstance(request, milvus_pb2.UpsertRequest) else "insert_cnt"
        return milvus_pb2.MutationResult(
            status=common_pb2.Status(**success_status_kwargs()),
            IDs=self._build_ids_proto(pks, col),
            succ_index=range(len(pks)),
            **{count: len(pks)},
        )

    def _delete(self, request: Any, col: Any, call: Call) -> Any:
        if not request.expr:
            raise UnsupportedError("no filter")
        pks = _keys(request.expr, col)
        if pks is None:
            view = self._live(col).refreshed(col, call)
            pks = columns.pks_at(view, _matching(view, col, request.expr))
        try:
            count = col.delete(pks, partition_name=request.partition_name or None)
        except OSError as exc:
            return _refused(exc)
        return milvus_pb2.MutationResult(
            status=common_pb2.Status(**success_status_kwargs()),
            IDs=self._build_ids_proto(pks, col),
            delete_cnt=count,
        )


class _Counted:
    """A collection whose number of rows is known: Milvus Lite takes long to count them."""

    def __init__(self, col: Any, num_entities: int) -> None:
        self._col = col
        self.num_entities = num_entities

    def __getattr__(self, name: str) -> Any:
        return getattr(self._col, name)


def _refused(error: Exception) -> Any:
    return milvus_pb2.MutationResult(status=common_pb2.Status(**to_status_kwargs(error)))


def _keys(expr: str, col: Any) -> Sequence[Any] | None:
    """The keys of the filter ``<primary key> in [...]``; None for any other."""
    member = in_lists.parse(expr, col) if expr.rstrip().endswith("]") else None
    if member is None or member.field != col._pk_name or member.negated:
        return None
    return member.values


def _is_plain(col: Any, partition: str) -> bool:
    return not (
        col._auto_id
        or col._ingestion_chain
        or col._partition_key_field is not None
        or col._schema.functions
        or col._schema.enable_dynamic_field
        or not col._manifest.has_partition(partition)
    )


def _should_flush(col: Any) -> bool:
    if hasattr(col, "_should_flush"):
        return bool(col._should_flush())
    return bool(col._memtable.size() >= lite_collection.MEMTABLE_SIZE_LIMIT)


def _matching(view: View, col: Any, expr: str, *, by_key: bool = False) -> Rows:
    if not expr:
        return view.pk_order() if by_key else view.live_rows()
    masks = filters.masks(view, col, expr)
    mask = np.zeros(0, dtype=bool)
    if masks:
        pairs = zip(view.parts, masks, strict=True)
        mask = np.concatenate([np.ones(p.rows, bool) if m is None else m for p, m in pairs])
    if by_key:
        order = view.pk_order()
        return order[mask[order]]
    return np.flatnonzero(mask).astype(np.int64)


def _nearest(view: View, col: Any, asked: SearchRequest) -> scan.Hits:
    queries, k = asked.queries, asked.k + asked.offset
    if asked.metric == "COSINE":
        queries = scan.normalize(queries)
    masks: list[Mask | None] = filters.masks(view, col, asked.expr)
    if asked.farthest:
        return farthest.search(view, masks, asked.field, queries, min(k, view.count))
    found = [scan.empty(len(queries))]
    parts = list(zip(view.parts, view.offsets[:-1].tolist(), masks, strict=True))
    coded = [] if asked.exact else _coded(parts, asked.field, asked.metric)
    coded = candidates.worthwhile(coded, k, queries)
    by_codes = {id(part.part) for part in coded}
    for part, start, mask in parts:
        if id(part) in by_codes:
            continue
        index = vector_indexes.usable(part, asked.field, k, asked.metric)
        if index is not None and not asked.expr and not asked.exact:
            hits = vector_indexes.search(
                index, part, asked.field, queries, k, asked.metric, asked.params
            )
            short = np.flatnonzero(hits.counts < k)
            if len(short):
                # The index found too few rows: these queries are answered exactly.
                again = scan.search(part, mask, asked.field, queries[short], k, asked.metric)
                hits.rows[short], hits.scores[short] = again.rows, again.scores
        else:
            hits = scan.search(part, mask, asked.field, queries, k, asked.metric)
        found.append(scan.Hits(np.where(hits.rows < 0, -1, hits.rows + start), hits.scores))
    if coded:
        found.append(candidates.search(coded, asked.field, queries, k, asked.metric))
    return scan.merge(found, min(k, view.count), asked.metric) if view.count else found[0]


def _coded(
    parts: Sequence[tuple[LivePart, int, Mask | None]], field: str, metric: str
) -> list[Coded]:
    found = [(*part, vector_indexes.codes(part[0], field, metric)) for part in parts]
    for part, _, _, codes in found:
        if codes is not None:
            part.norms(field).know(codes.inverse)
    return [Coded(part, start, mask, codes) for part, start, mask, codes in found if codes]
