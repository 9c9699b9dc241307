"""FiftyOne's record of a run, changed in place by one atomic update.

A run is a document in MongoDB: the config, and a file in GridFS with the results, of which the
document has the ID. The new file is written first, then the document, then the old file goes; who
reads meanwhile sees the old run or the new one. FiftyOne's own calls delete before they write.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timezone
from typing import Any

import fiftyone.constants as foc
import fiftyone.core.odm as foo
import fiftyone.core.view as fov
from bson import json_util
from fiftyone.core.brain import BrainMethod
from gridfs import GridFS

from fiftyone_milvus.dataset import internals
from fiftyone_milvus.errors import EngineError, InvalidInputError, incompatible

logger = logging.getLogger(__name__)


def document(dataset: Any, key: str) -> Any:
    """Returns the document of a brain run.

    Raises:
        InvalidInputError: if there is no such run
    """
    known = dataset.list_brain_runs()
    if key not in known:
        raise InvalidInputError(
            f"Dataset '{dataset.name}' has no brain run '{key}'; it has "
            f"{', '.join(map(repr, known)) or 'none'}"
        )
    return internals.member(BrainMethod, "_get_run_doc")(dataset, key)


def made(dataset: Any, key: str) -> str:
    """Returns when a run was made, the same in every process.

    The process that made it knows microseconds, while MongoDB keeps milliseconds.
    """
    moment = document(dataset, key).timestamp
    if moment is None:
        return ""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return str(moment.isoformat(timespec="milliseconds"))


def samples(dataset: Any, key: str) -> Any:
    """Returns what a run is of: the dataset, or a view of its frames or clips."""
    return BrainMethod.load_run_view(dataset, key)


def cached(dataset: Any, key: str) -> Any:
    """Returns the results of a run that FiftyOne keeps in this process, or None."""
    return _cache(dataset).get(key)


def remember(dataset: Any, key: str, results: Any) -> None:
    """Lets FiftyOne keep these results, and the credentials that they have, in this process."""
    _cache(dataset)[key] = results


def forget(dataset: Any, key: str) -> None:
    """Lets FiftyOne load a run anew."""
    _cache(dataset).pop(key, None)


def rewrite(
    dataset: Any,
    key: str,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    *,
    of: Any = None,
) -> None:
    """Replaces config and results of a run, atomically, and forgets what is cached of it.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: of the run
        config: what the new config serializes to
        results: what the new results serialize to
        of: what the run is of, if it becomes another one, made now: the dataset, or a view

    Raises:
        InvalidInputError: if another process has changed the run meanwhile
        EngineError: if this FiftyOne stores runs in another way
    """
    found = document(dataset, key)
    database = foo.get_db_conn()
    files = GridFS(database)
    old = internals.member(found.results, "grid_id") if found.results else None
    stored = database.runs.find_one({"_id": found.id}, {"config.cls": 1})
    if stored is not None and "config" not in stored:
        raise EngineError(incompatible("fiftyone", "other documents of runs in MongoDB"))
    new = files.put(json_util.dumps(dict(results)).encode(), content_type="application/json")
    changes = {"config": deepcopy(dict(config)), "results": new}
    if hasattr(found, "results_meta"):
        changes["results_meta"] = {}
    if of is not None:
        changes["version"] = foc.VERSION
        changes["timestamp"] = datetime.now(timezone.utc).replace(tzinfo=None)
        changes["view_stages"] = _stages(of)
    # As a missing field, too
    same = {"_id": found.id, "results": old, "config.cls": found.config.get("cls")}
    done = False
    try:
        done = database.runs.update_one(same, {"$set": changes}).matched_count == 1
    finally:
        if not done:
            # After an interruption nobody knows whether it was written
            with suppress(Exception):
                if not database.runs.find_one({"_id": found.id, "results": new}, {"_id": 1}):
                    files.delete(new)
    if not done:
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' was changed by another process; call "
            "dataset.reload() and try again"
        )
    found.reload()
    forget(dataset, key)
    if old is not None:
        with suppress(Exception):
            files.delete(old)


def _stages(samples: Any) -> list[str] | None:
    if not isinstance(samples, fov.DatasetView):
        return None
    return [json_util.dumps(stage) for stage in samples._serialize(include_uuids=False)]


def _cache(dataset: Any) -> Any:
    return getattr(dataset, internals.member(BrainMethod, "_results_cache_field")())
