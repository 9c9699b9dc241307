"""Where Milvus is, whether it can be used, and what is in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from fiftyone_milvus import embedded, inventory
from fiftyone_milvus.connection import Connection, Target
from fiftyone_milvus.connection.diagnosis import certificate_days
from fiftyone_milvus.doctor import roundtrip
from fiftyone_milvus.doctor.verdict import Verdict, advice, failed
from fiftyone_milvus.embedded.disk_space import free_bytes
from fiftyone_milvus.errors import FiftyOneMilvusError

LOW_BYTES = 1 << 30
"""Free bytes of the disk of an embedded engine below which there is a warning."""

SOON_DAYS = 30
"""Days of validity of a server's certificate below which there is a warning."""


def examine(uri: str | None) -> Iterator[Verdict]:
    """Yields a verdict on each of its checks; ends where Milvus does not answer."""
    try:
        connection = inventory.configured(uri)
    except FiftyOneMilvusError as error:
        yield failed("Milvus", error)
        return
    status = inventory.milvus_status(connection)
    if status.error is not None:
        yield Verdict("Milvus", "problem", *advice(status.error))
        return
    yield Verdict(
        "Milvus",
        "ok",
        f"{status.engine} {status.version} at {status.address} ({status.deployment}), "
        f"{1e3 * (status.latency or 0):.0f} ms",
    )
    target = connection.target
    if target.path is not None:
        yield _engine(target.path)
        yield _disk(target.path)
    else:
        yield _encryption(target)
    yield roundtrip.run(connection)
    yield _indexes(connection)


def _engine(path: Path) -> Verdict:
    running = embedded.status(path)
    if running is None or not running.warning:
        return Verdict("embedded engine", "ok", "with fast paths, protected against a full disk")
    remedy = "pip install --upgrade fiftyone-milvus"
    return Verdict("embedded engine", "warning", running.warning, remedy)


def _disk(path: Path) -> Verdict:
    free = free_bytes(path)
    found = f"{free / 1e9:.1f} GB free at {path}"
    if free < LOW_BYTES:
        return Verdict("disk", "warning", found, "make room: writes are refused when it is full")
    return Verdict("disk", "ok", found)


def _encryption(target: Target) -> Verdict:
    settings = target.settings
    if target.tls:
        days = certificate_days(target)
        how = "mutual TLS" if settings.client_pem_path else "TLS"
        if days is None:
            return Verdict("encryption", "ok", how)
        found = f"{how}; the server's certificate is valid for {days} more days"
        if days < SOON_DAYS:
            return Verdict("encryption", "warning", found, "renew it on the server")
        return Verdict("encryption", "ok", found)
    if _is_local(target.host):
        return Verdict("encryption", "ok", "none, on this machine")
    secret = settings.token or settings.password
    found = "none: " + ("the password and " if secret else "") + "all vectors go in the clear"
    return Verdict(
        "encryption", "warning", found, "enable TLS on the server, and use an https:// address"
    )


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _indexes(connection: Connection) -> Verdict:
    try:
        return _inventory(connection)
    except FiftyOneMilvusError as error:
        return failed("indexes", error)


def _inventory(connection: Connection) -> Verdict:
    import fiftyone as fo

    lost: list[str] = []
    silent: list[tuple[str, str]] = []
    count = 0
    for name in inventory.datasets():
        for info in inventory.indexes(fo.load_dataset(name), compare=False):
            count += 1
            which = f"'{info.brain_key}' of '{name}'"
            if info.error is not None:
                silent.append((which, info.error))
            elif info.exists is False:
                lost.append(which)
    orphans = [c for c in inventory.collections(connection) if c.owner == "orphan"]
    built_in = inventory.built_in_runs()
    found = f"{count} indexes of {len(inventory.datasets())} datasets"
    remedies: list[str] = []
    if silent:
        which, error = silent[0]
        why, remedy = advice(error)
        found += f"; {len(silent)} can't be used, as {which}: {why}"
        remedies.append(remedy or "`fiftyone-milvus info` shows why")
    if lost:
        found += f"; {len(lost)} without a collection, as {lost[0]}"
        remedies.append("`fiftyone-milvus sync` them, or delete their brain runs")
    if orphans:
        found += f"; {len(orphans)} orphaned collections"
        remedies.append("`fiftyone-milvus cleanup` shows and drops them")
    if built_in:
        found += f"; {len(built_in)} of FiftyOne's built-in backend"
        remedies.append("`fiftyone-milvus adopt` takes them over")
    level = "problem" if silent else "warning" if remedies else "ok"
    return Verdict("indexes", level, found, "; ".join(remedies))
