"""Brings an index up to date with a dataset or view."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection.filters import batches
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.fields.store import FieldsReport
from fiftyone_milvus.syncing import expected_rows, media
from fiftyone_milvus.syncing.difference import Difference, Unexpected, compare, look_up
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.media import Embedded
from fiftyone_milvus.syncing.others import of_others
from fiftyone_milvus.syncing.report import SyncReport
from fiftyone_milvus.syncing.scope import Options, Target
from fiftyone_milvus.syncing.sources import Source
from fiftyone_milvus.syncing.upload import Upload
from fiftyone_milvus.writing import writer

logger = logging.getLogger(__name__)

_LOOK_UP = 10_000
"""The most expected rows that are looked up by key instead of reading all keys of the index."""

_LOGGED_FAILURES = 10
_DELETE = 10_000


def sync(target: Target, samples: Any, source: Source, options: Options) -> SyncReport:
    """Embeds and writes the rows that are missing, and removes the stale ones.

    If it ends early, written rows stay, and the next sync writes the rest. Rows replace those with
    the same key, so several processes may sync at the same time.

    Args:
        target: the index
        samples: the :class:`fiftyone.core.collections.SampleCollection` to bring it up to date with
        source: where the embeddings come from
        options: how to sync

    Raises:
        InvalidInputError: if the source can't be used for these rows, or a row has no embedding
            and failures are not skipped
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    start = time.monotonic()
    collection = target.collection
    embedded = Embedded.now(target.dataset)
    everything = expected = expected_rows.read(samples, target.patches_field)
    if options.shard is not None:
        expected = expected.take(np.flatnonzero(options.shard.has(expected.documents)))
    exists = collection.present()
    if exists:
        difference = _compare(target, expected, options)
    else:
        difference = Difference(np.zeros(len(expected), dtype=bool))
    missing = np.flatnonzero(~difference.present)
    refresh = options.refresh and exists
    changed = _changed(target, samples, expected, difference) if refresh else missing[:0]
    source.prepare(everything, len(missing))
    compared = time.monotonic() - start

    total = len(missing) + len(changed)
    with closing(source), Upload(target, samples, source, options, total=total) as upload:
        remember = upload.watermark is not None and exists
        added, sample_ids = upload.add(expected.take(missing), remember=remember)
        updated, _ = upload.add(expected.take(changed))
    if upload.written:
        writer.flush_if_due(collection, upload.written, wait=False)
    if upload.watermark is not None and added:
        target.fields.written(upload.watermark, sample_ids, all_rows=upload.created)
    removed = kept = shared = 0
    if options.prune:
        removed, kept, shared = _prune(target, samples, difference.unexpected, options.progress)
    if refresh and not upload.failed:
        collection.record_embedded(embedded.to_dict())
    report = SyncReport(
        added=added,
        updated=updated,
        removed=removed,
        unchanged=len(expected) - len(missing) - updated,
        kept=kept,
        shared=shared,
        foreign=len(difference.unexpected.foreign),
        failed=upload.failed,
        lost_workers=source.lost,
        fields=_update_fields(target, options),
        shard=None if options.shard is None else (options.shard.index, options.shard.count),
        comparing=compared,
        seconds=time.monotonic() - start,
    )
    _log(target, report)
    return report


def _compare(target: Target, expected: Expected, options: Options) -> Difference:
    if not options.prune and len(expected) <= _LOOK_UP:
        return look_up(target.collection, expected)
    return compare(target.collection, expected, patches=target.patches_field is not None)


def _changed(
    target: Target, samples: Any, expected: Expected, difference: Difference
) -> npt.NDArray[np.intp]:
    recorded = Embedded.from_dict(target.collection.layout.embedded, target.dataset)
    positions = np.flatnonzero(difference.present)
    return positions[media.changed(samples, expected.documents[positions], recorded)]


def _prune(
    target: Target, samples: Any, unexpected: Unexpected, progress: Any
) -> tuple[int, int, int]:
    """Removes those unexpected rows whose sample or label is not in the dataset.

    Returns:
        the number of rows removed; of stale rows left, as the collection may be another's; and of
        rows that belong to another dataset
    """
    exist = expected_rows.existing(
        samples, target.patches_field, unexpected.keys, unexpected.sample_ids
    )
    keys, sample_ids = unexpected.keys[~exist], unexpected.sample_ids[~exist]
    if not len(keys):
        return 0, 0, 0
    if not target.owned():
        logger.warning(
            "The %s has %d vectors that belong to no sample of this dataset; they stay, as the "
            "collection is not recorded as this index's; remove them with remove_from_index()",
            target.collection.where,
            len(keys),
        )
        return 0, len(keys), 0
    shared = 0
    if users := target.others():
        theirs = of_others(
            users, target.dataset, target.patches_field, target.collection, keys, sample_ids
        )
        keys, shared = keys[~theirs], int(np.count_nonzero(theirs))
    stale = object_ids.to_strings(keys)
    title, show = "Removing stale vectors from Milvus", len(stale) > _DELETE
    with ProgressBar(len(stale), title, show=show, progress=progress) as bar:
        for part in batches(stale, _DELETE):
            target.collection.delete(part)
            bar.update(len(part))
    return len(stale), 0, shared


def _update_fields(target: Target, options: Options) -> FieldsReport | None:
    if not options.update_fields or not target.collection.present() or not target.fields.own:
        return None
    return target.fields.sync(progress=options.progress)


def _log(target: Target, report: SyncReport) -> None:
    failed = list(report.failed.items())
    for key, why in failed[:_LOGGED_FAILURES]:
        logger.warning("No embedding of '%s': %s", key, why)
    if (more := len(failed) - _LOGGED_FAILURES) > 0:
        logger.warning("No embedding of %d more; see `failed` of the report", more)
    # The caller prints the report; what is missing in it was said above
    logger.debug("%s: %s", target.name, report)
