"""MongoDB's aggregation pipelines, which views become: which documents come through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fiftyone_milvus.fields.translate import aggregation, queries
from fiftyone_milvus.fields.translate.conditions import ALL, Condition, Untranslatable, every
from fiftyone_milvus.fields.translate.documents import Document, Value


def rows(pipeline: Iterable[Mapping[str, Any]], document: Document) -> Condition:
    """Returns the index's rows that come through a pipeline.

    Args:
        pipeline: as FiftyOne hands it to MongoDB
        document: a document that enters it; is changed to what leaves it

    Raises:
        Untranslatable: if the columns don't tell
    """
    found: Condition = ALL
    for stage in pipeline:
        ((operator, argument),) = stage.items()
        match operator:
            case "$match":
                found = every(found, queries.condition(argument, document))
            case "$addFields" | "$set":
                _add(argument, document)
            case "$project":
                _project(argument, document)
            case "$unset":
                for path in [argument] if isinstance(argument, str) else argument:
                    document.remove(path)
            case "$sort":
                pass
            case _:
                raise Untranslatable(operator)
    return every(found, document.rows())


def _add(fields: Mapping[str, Any], document: Document) -> None:
    values = {path: _value(expr, document) for path, expr in fields.items()}
    for path, value in values.items():
        document.put(path, value)


def _value(expr: Any, document: Document) -> Value | None:
    try:
        return aggregation.evaluate(expr, document)
    except Untranslatable:
        return None  # Matters only if something reads it


def _project(fields: Mapping[str, Any], document: Document) -> None:
    if not all(shown in (False, True, 0, 1) for shown in fields.values()):
        raise Untranslatable("$project that computes")
    selected = [path for path, shown in fields.items() if shown]
    for path, shown in fields.items():
        if not shown:
            document.remove(path)
    if selected:
        document.select([*selected, "_id"])
