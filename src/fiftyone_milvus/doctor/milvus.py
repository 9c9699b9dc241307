"""Checks that Milvus answers and works, and what uses its collections."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from fiftyone_milvus import embedded, inventory
from fiftyone_milvus.connection import Connection, Target, new_indexes
from fiftyone_milvus.connection.diagnosis import certificate_days
from fiftyone_milvus.doctor import files, roundtrip
from fiftyone_milvus.doctor.verdict import Verdict, advice, checked, failed
from fiftyone_milvus.embedded.disk_space import free_bytes
from fiftyone_milvus.errors import FiftyOneMilvusError

_LOW_BYTES = 1 << 30
"""Free bytes on the disk of an embedded engine below which there is a warning."""

_SOON_DAYS = 30
"""Days until a server's certificate expires, below which there is a warning."""


def examine(uri: str | None) -> Iterator[Verdict]:
    """Yields a verdict for each check; ends if Milvus does not answer."""
    try:
        connection = inventory.configured(uri)
    except FiftyOneMilvusError as error:
        yield failed("Milvus", error)
        return
    status = inventory.milvus_status(connection)
    if status.error is not None:
        yield Verdict("Milvus", "problem", *advice(status.error))
        return
    where = f"{status.title} at {status.address} ({status.deployment})"
    yield Verdict("Milvus", "ok", f"{where}, {1e3 * (status.latency or 0):.0f} ms")
    target = connection.target
    yield Verdict("new indexes", "ok", f"go to {new_indexes(target.settings)}")
    if target.path is not None:
        yield _engine(target.path)
        yield _disk(target.path)
        yield files.examine(target.path)
    else:
        yield _encryption(target)
    yield roundtrip.run(connection)
    yield _indexes(connection)


@checked("embedded engine")
def _engine(path: Path) -> tuple[str, ...]:
    running = embedded.status(path)
    if running is None or not running.warning:
        return "ok", "with fast paths, protected against a full disk"
    return "warning", running.warning, "pip install --upgrade fiftyone-milvus"


@checked("disk")
def _disk(path: Path) -> tuple[str, ...]:
    free = free_bytes(path)
    found = f"{free / 1e9:.1f} GB free at {path}"
    if free < _LOW_BYTES:
        return "warning", found, "free some space: writes are refused when the disk is full"
    return "ok", found


@checked("encryption")
def _encryption(target: Target) -> tuple[str, ...]:
    settings = target.settings
    if target.tls:
        days = certificate_days(target)
        how = "mutual TLS" if settings.client_pem_path else "TLS"
        if days is None:
            return "ok", how
        found = f"{how}; the server's certificate is valid for {days} more days"
        if days < _SOON_DAYS:
            return "warning", found, "renew it on the server"
        return "ok", found
    if _is_local(target.host):
        return "ok", "none, on this machine"
    secret = "the password and " * bool(settings.token or settings.password)
    remedy = "enable TLS on the server, and use an https:// address"
    return "warning", f"none: {secret}all vectors are sent unencrypted", remedy


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@checked("indexes")
def _indexes(connection: Connection) -> tuple[str, ...]:
    import fiftyone as fo

    infos = [
        info
        for name in inventory.datasets()
        for info in inventory.indexes(fo.load_dataset(name), compare=False)
    ]
    failing = [info for info in infos if info.error is not None]
    empty = [info for info in infos if info.error is None and info.exists is False]
    orphans = [c for c in inventory.collections(connection) if c.owner == "orphan"]
    built_in = inventory.built_in_runs()
    found = f"{len(infos)} indexes of {len({info.dataset for info in infos})} datasets"
    remedies: list[str] = []
    if failing:
        why, remedy = advice(str(failing[0].error))
        found += f"; {len(failing)} can't be used, for example {_which(failing[0])}: {why}"
        remedies.append(remedy or "`fiftyone-milvus info` shows why")
    if empty:
        found += f"; {len(empty)} without a collection, for example {_which(empty[0])}"
        remedies.append("`fiftyone-milvus sync` them, or delete their brain runs")
    if orphans:
        found += f"; {len(orphans)} orphaned collections"
        remedies.append("`fiftyone-milvus cleanup` shows and drops them")
    if built_in:
        found += f"; {len(built_in)} of FiftyOne's built-in backend"
        remedies.append("`fiftyone-milvus adopt` makes them this package's")
    level = "problem" if failing else "warning" if remedies else "ok"
    return level, found, "; ".join(remedies)


def _which(info: inventory.IndexInfo) -> str:
    return f"'{info.brain_key}' of '{info.dataset}'"
