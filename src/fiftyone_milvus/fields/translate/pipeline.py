"""MongoDB's aggregation pipelines, as views have them: which documents pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fiftyone_milvus.fields.translate import aggregation, queries
from fiftyone_milvus.fields.translate.conditions import ALL, Condition, Untranslatable, every
from fiftyone_milvus.fields.translate.documents import Document, Value


def rows(pipeline: Iterable[Mapping[str, Any]], document: Document) -> Condition:
    """Returns the condition for the rows of the index that pass a pipeline.

    Args:
        pipeline: the stages for MongoDB
        document: the document that enters the pipeline; it is changed by the stages

    Raises:
        Untranslatable: if the columns don't determine the rows
    """
    found: Condition = ALL
    for stage in pipeline:
        ((operator, argument),) = stage.items()
        match operator:
            case "$match":
                found = every(found, queries.condition(argument, document))
            case "$addFields" | "$set":
                values = {path: _value(expr, document) for path, expr in argument.items()}
                for path, value in values.items():
                    document.put(path, value)
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


def _value(expr: Any, document: Document) -> Value | None:
    try:
        return aggregation.evaluate(expr, document)
    except Untranslatable:
        return None  # This matters only if a later stage reads it


def _project(fields: Mapping[str, Any], document: Document) -> None:
    if not all(shown in (False, True, 0, 1) for shown in fields.values()):
        raise Untranslatable("$project that computes")
    selected = [path for path, shown in fields.items() if shown]
    for path, shown in fields.items():
        if not shown:
            document.remove(path)
    if selected:
        document.select([*selected, "_id"])
