"""The file that tells clients where the service of a data directory answers, and its token.

It stays the same when the service restarts, so that clients from before work after it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import socket
from pathlib import Path

from fiftyone_milvus.embedded import paths
from fiftyone_milvus.errors import EmbeddedServiceError

TRANSPORT_VARIABLE = "FIFTYONE_MILVUS_TRANSPORT"

# sun_path holds 108 bytes on Linux, 104 on macOS and the BSDs, one of them the final zero.
_SOCKET_PATH_BYTES = 103


@dataclasses.dataclass(frozen=True)
class ServiceFile:
    """Where a service answers, and its token.

    Attributes:
        id: the name of the service's files in the runtime directory
        path: the data directory
        token: the secret that clients must send
        milvus: the address of Milvus' protocol, for gRPC: ``unix:<socket>`` or
            ``127.0.0.1:<port>``, with port 0 for any
        control: the address of the control socket: its path, or ``127.0.0.1:<port>``
    """

    id: str
    path: str
    token: str = dataclasses.field(repr=False)
    milvus: str
    control: str

    @property
    def address(self) -> str:
        """The ``uri`` for a ``MilvusClient``."""
        return self.milvus if self.milvus.startswith("unix:") else f"http://{self.milvus}"


def load(path: Path) -> ServiceFile | None:
    """Reads the service file of a data directory.

    Args:
        path: the resolved data directory

    Returns:
        None if there is none, or if it belongs to the directory that this one was copied from

    Raises:
        EmbeddedServiceError: if it is another user's
    """
    file = path / paths.SERVICE_FILE
    try:
        service = ServiceFile(**json.loads(file.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    except OSError as error:
        raise EmbeddedServiceError(
            f"can't read '{file}': {error.strerror}; the data directory is another user's, choose "
            "another path"
        ) from error
    return service if service.path == str(path) else None


def load_or_create(path: Path) -> ServiceFile:
    """Reads the service file of a data directory, or makes up a new one if it can't be used.

    Args:
        path: the resolved data directory
    """
    service = load(path)
    if service is not None and _is_usable(service):
        return service

    name = secrets.token_hex(8)
    milvus, control = _addresses(name)
    token = service.token if service is not None else secrets.token_urlsafe(32)
    return ServiceFile(id=name, path=str(path), token=token, milvus=milvus, control=control)


def save(service: ServiceFile) -> None:
    """Writes a service file, readable by this user only, if it has changed."""
    directory = Path(service.path)
    if load(directory) == service:
        return  # the disk may be full
    draft = directory / f"{paths.SERVICE_FILE}.{os.getpid()}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(dataclasses.asdict(service), stream, indent=1)
        draft.replace(directory / paths.SERVICE_FILE)
    finally:
        draft.unlink(missing_ok=True)


def uses_unix_sockets() -> bool:
    """Whether new services use unix sockets; not with ``$FIFTYONE_MILVUS_TRANSPORT=tcp``."""
    return hasattr(socket, "AF_UNIX") and os.environ.get(TRANSPORT_VARIABLE, "").lower() != "tcp"


def _addresses(name: str) -> tuple[str, str]:
    if uses_unix_sockets():
        directory = paths.runtime_directory()
        milvus, control = directory / f"{name}.sock", directory / f"{name}.control"
        if len(os.fsencode(control)) <= _SOCKET_PATH_BYTES:
            return f"unix:{milvus}", str(control)
    return "127.0.0.1:0", "127.0.0.1:0"


def _is_usable(service: ServiceFile) -> bool:
    if not service.milvus.startswith("unix:"):
        return True
    # The temporary directory may have changed, or been emptied, since.
    return uses_unix_sockets() and Path(service.control).parent == paths.runtime_directory()
