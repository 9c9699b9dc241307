"""Verifies the files of the embedded engine, and repairs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fiftyone_milvus import embedded, inventory
from fiftyone_milvus.doctor.verdict import Verdict, checked, failed
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.inventory import runs

_SHOWN = 5
"""IDs that are named; all are in a file."""


@checked("files")
def examine(path: Path) -> tuple[str, ...]:
    """Verifies all files of a data directory."""
    damages = embedded.verify(path)
    if damages is None:
        remedy = "run `fiftyone-milvus stop`: the next call starts the installed version"
        return "warning", "not verified: the running service is of an earlier version", remedy
    aside = sorted(path.rglob("quarantine/"))
    rest = f"; set aside earlier: '{aside[0]}'" if aside else ""
    if not damages:
        return "ok", f"all intact{rest}"
    collections = {damage["collection"] for damage in damages}
    one = damages[0]
    found = (
        f"{len(damages)} damaged in {len(collections)} collections, for example "
        f"'{one['file']}' of '{one['collection']}' {one['what']}, which affects {one['affects']}"
    )
    return "problem", found, f"run `fiftyone-milvus doctor --repair --uri {path}`"


def repair(uri: str | None) -> Iterator[Verdict]:
    """Repairs the files of the configured Milvus, and yields a verdict for each collection."""
    try:
        path = inventory.configured(uri).target.path
        if path is None:
            yield Verdict(
                "repair", "problem", "a server repairs its own files", "leave out --repair"
            )
            return
        repairs = embedded.repair(path)
    except FiftyOneMilvusError as error:
        yield failed("repair", error)
        return
    if not repairs:
        yield Verdict("repair", "ok", "there was nothing to repair")
    for one in repairs:
        found = f"'{one.collection}': {'; '.join(one.done) or 'nothing could be done'}"
        if one.lost:
            found += f". Lost: {'; '.join(one.lost)}"
        if one.ids:
            found += f". Missing: {', '.join(map(str, one.ids[:_SHOWN]))}"
            found += f" and {len(one.ids) - _SHOWN} more" * (len(one.ids) > _SHOWN)
        level = "ok" if one.is_whole and not one.lost else "warning" if one.is_whole else "problem"
        yield Verdict("repair", level, found, _remedy(one.collection) if one.lost else "")


def _remedy(collection: str) -> str:
    using = [run for run in runs.read() if run.collection == collection]
    what = " and ".join(f"`fiftyone-milvus sync {r.dataset} {r.brain_key}`" for r in using)
    return (
        f"run {what or '`fiftyone-milvus sync`'}: it embeds what is missing, and removes what "
        "is stale"
    )
