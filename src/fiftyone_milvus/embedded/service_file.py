"""The file that tells clients where the service of a data directory answers, and its key.

Each start of a service has a new key. The addresses stay.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import socket
from pathlib import Path

from fiftyone_milvus.embedded import files, handshake, paths
from fiftyone_milvus.errors import EmbeddedServiceError

TRANSPORT_VARIABLE = "FIFTYONE_MILVUS_TRANSPORT"

# sun_path holds 108 bytes on Linux, 104 on macOS and the BSDs, one of them the final zero.
_SOCKET_PATH_BYTES = 103


@dataclasses.dataclass(frozen=True)
class ServiceFile:
    """Where a service answers, and its key.

    Attributes:
        id: the name of the service's files in the runtime directory
        path: the data directory
        key: the secret of this start, which is never sent
        milvus: the address of Milvus' protocol, for gRPC: ``unix:<socket>`` or
            ``127.0.0.1:<port>``, with port 0 for any
        control: the address of the control socket: its path, or ``127.0.0.1:<port>``
    """

    id: str
    path: str
    key: str = dataclasses.field(repr=False)
    milvus: str
    control: str

    @property
    def address(self) -> str:
        """The ``uri`` for a ``MilvusClient``."""
        return self.milvus if self.milvus.startswith("unix:") else f"http://{self.milvus}"

    @property
    def token(self) -> str:
        """The ``token`` for a ``MilvusClient``, valid until this start of the service ends."""
        return handshake.token(self.key)


def load(path: Path) -> ServiceFile | None:
    """Reads the service file of a data directory.

    Args:
        path: the resolved data directory

    Returns:
        None if there is none, or if it belongs to the directory that this one was copied from

    Raises:
        EmbeddedServiceError: if the directory or the file is another user's, or others can write
            to it
    """
    file = path / paths.SERVICE_FILE
    try:
        if path.is_file():
            return None  # paths.prepare() says what it may be
        files.check_directory(path)
        service = ServiceFile(**json.loads(files.read(file, secret=True)))
    except EmbeddedServiceError:
        raise
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    except OSError as error:
        raise EmbeddedServiceError(
            f"can't read '{file}': {error.strerror}; the data directory is another user's, choose "
            "another path"
        ) from error
    return service if service.path == str(path) else None


def load_or_create(path: Path) -> ServiceFile:
    """Returns where the service of a data directory is to answer: as before if that can be used.

    Its key is new.

    Args:
        path: the resolved data directory
    """
    service = load(path)
    if service is not None and _is_usable(service):
        return dataclasses.replace(service, key=handshake.new_key())

    name = secrets.token_hex(8)
    milvus, control = _addresses(name)
    return ServiceFile(name, str(path), handshake.new_key(), milvus, control)


def save(service: ServiceFile) -> None:
    """Writes a service file, readable by this user only."""
    text = json.dumps(dataclasses.asdict(service), indent=1)
    files.write(Path(service.path) / paths.SERVICE_FILE, text)


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
