"""Brings an index in step with a dataset or view."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.fields.store import FieldsReport
from fiftyone_milvus.syncing import expected_rows, media
from fiftyone_milvus.syncing.difference import Difference, compare, look_up
from fiftyone_milvus.syncing.expected_rows import Wanted
from fiftyone_milvus.syncing.media import Embedded
from fiftyone_milvus.syncing.removal import prune
from fiftyone_milvus.syncing.report import SyncReport
from fiftyone_milvus.syncing.scope import Options, Target
from fiftyone_milvus.syncing.sources import Source
from fiftyone_milvus.syncing.upload import Filling
from fiftyone_milvus.writing import writer

logger = logging.getLogger(__name__)

_LOOK_UP = 10_000
_TELL = 10


def sync(
    target: Target,
    samples: Any,
    source_of: Callable[[Wanted, npt.NDArray[np.intp]], Source],
    options: Options,
) -> SyncReport:
    """Compares, embeds and writes what is missing, and removes what is stale.

    What was written stays if it ends early; the next run goes on from there. Rows replace those of
    the same key, so runs of several processes do not get in each other's way.

    Args:
        target: the index
        samples: the :class:`fiftyone.core.collections.SampleCollection` to bring it in step with
        source_of: returns where the embeddings come from, for the keys that are asked for and
            the positions of those that are missing
        options: how

    Returns:
        what was done
    """
    start = time.monotonic()
    collection, fields = target.collection, target.fields
    embedded = Embedded.now(target.dataset)
    keys = expected_rows.read(samples, target.patches_field)
    known = collection.present()
    difference = (
        _compare(target, keys, options) if known else Difference(np.zeros(len(keys), dtype=bool))
    )
    missing = np.flatnonzero(~difference.present)
    refresh = options.refresh and known
    changed = _changed(target, samples, keys, difference) if refresh else missing[:0]
    source = source_of(keys, missing)
    source.check(keys)
    compared = time.monotonic() - start

    watermark = fields.watermark()
    total = len(missing) + len(changed)
    with Filling(target, samples, source, options, total=total, watermark=watermark) as filling:
        remember = watermark is not None and known
        added = filling.fill(keys.take(missing), remember=remember)
        updated = filling.fill(keys.take(changed))
    if filling.written:
        writer.flush_if_due(collection, filling.written, wait=False)
    if watermark is not None and added.count:
        fields.written(watermark, added.sample_ids, all_rows=filling.created)
    removed, kept = (
        prune(target, samples, difference.surplus, options.progress) if options.prune else (0, 0)
    )
    if refresh and not filling.failed:
        collection.record_embedded(embedded.to_dict())
    report = SyncReport(
        added=added.count,
        updated=updated.count,
        removed=removed,
        unchanged=len(keys) - len(missing) - updated.count,
        kept=kept,
        failed=filling.failed,
        fields=_update_fields(target, options),
        comparing=compared,
        seconds=time.monotonic() - start,
    )
    _tell(target, report)
    return report


def _compare(target: Target, keys: Wanted, options: Options) -> Difference:
    if not options.prune and len(keys) <= _LOOK_UP:
        return look_up(target.collection, keys)
    return compare(target.collection, keys, patches=target.patches_field is not None)


def _changed(
    target: Target, samples: Any, keys: Wanted, difference: Difference
) -> npt.NDArray[np.intp]:
    recorded = Embedded.from_dict(target.collection.layout.embedded, target.dataset)
    positions = np.flatnonzero(difference.present)
    return positions[media.changed(samples, keys.documents[positions], recorded)]


def _update_fields(target: Target, options: Options) -> FieldsReport | None:
    if not options.update_fields or not target.collection.present() or not target.fields.own:
        return None
    return target.fields.sync(progress=options.progress)


def _tell(target: Target, report: SyncReport) -> None:
    failed = list(report.failed.items())
    for key, why in failed[:_TELL]:
        logger.warning("No embedding of '%s': %s", key, why)
    if len(failed) > _TELL:
        logger.warning(
            "No embedding of %d more; the report's `failed` has them all", len(failed) - _TELL
        )
    logger.info("%s: %s", target.name, report)
