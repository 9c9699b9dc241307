"""FiftyOne's record of a brain run, changed in place by one atomic update.

A run is a document in MongoDB with the config and the ID of a GridFS file with the results. The new
file is written first, then the document, and then the old file is deleted, so that other processes
see the old run or the new one. FiftyOne's own calls delete before they write.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timezone
from typing import Any

import fiftyone.constants as foc
import fiftyone.core.dataset as fod
import fiftyone.core.odm as foo
import fiftyone.core.view as fov
from bson import json_util
from fiftyone.core.brain import BrainMethod
from gridfs import GridFS

from fiftyone_milvus.dataset import internals
from fiftyone_milvus.errors import EngineError, InvalidInputError, incompatible, shown

logger = logging.getLogger(__name__)


def check_dataset(dataset: Any) -> None:
    """Raises InvalidInputError unless it is a dataset."""
    if not isinstance(dataset, fod.Dataset):
        raise InvalidInputError(
            f"Invalid dataset {shown(dataset)}; expected a fiftyone.Dataset, not its name or a view"
        )


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
    """Returns the time when a run was made, with MongoDB's precision of milliseconds.

    The process that made it also knows microseconds.
    """
    moment = document(dataset, key).timestamp
    if moment is None:
        return ""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return str(moment.isoformat(timespec="milliseconds"))


def samples(dataset: Any, key: str) -> Any:
    """Returns the collection of a run: the dataset, or a view of its frames or clips."""
    return BrainMethod.load_run_view(dataset, key)


def cached(dataset: Any, key: str) -> Any:
    """Returns the results of a run that FiftyOne has cached in this process, or None."""
    return _cache(dataset).get(key)


def remember(dataset: Any, key: str, results: Any) -> None:
    """Makes FiftyOne cache these results, with their credentials, in this process."""
    _cache(dataset)[key] = results


def forget(dataset: Any, key: str) -> None:
    """Makes FiftyOne load a run again."""
    _cache(dataset).pop(key, None)


def rewrite(
    dataset: Any,
    key: str,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    *,
    of: Any = None,
) -> None:
    """Replaces config and results of a run atomically, and clears FiftyOne's cache of it.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the run
        config: the new config, serialized
        results: the new results, serialized
        of (None): the dataset or view of the run, if it becomes a new run that is made now

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
    # Where there are no results, None also matches a missing field
    same = {"_id": found.id, "results": old, "config.cls": found.config.get("cls")}
    done = False
    try:
        done = database.runs.update_one(same, {"$set": changes}).matched_count == 1
    finally:
        if not done:
            # After an interruption, the document may have been written
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
