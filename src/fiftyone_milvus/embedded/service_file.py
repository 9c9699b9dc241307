"""A data directory's service as its clients know it: where it answers, and its token.

The same across restarts, so that a client that was built before one works after it.
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
class Identity:
    """Where a service answers, and its token.

    Attributes:
        id: names the service's files in the runtime directory
        path: the data directory that it serves
        token: its secret
        milvus: ``unix:<socket>`` or ``127.0.0.1:<port>``, port 0 for any; what gRPC binds
        control: the socket's path or ``127.0.0.1:<port>``; see :mod:`.control`
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


def load(path: Path) -> Identity | None:
    """Reads a data directory's identity.

    Args:
        path: the resolved data directory

    Returns:
        None if it has none, or has that of the directory which it was copied from

    Raises:
        EmbeddedServiceError: if it is another user's
    """
    file = path / paths.IDENTITY
    try:
        identity = Identity(**json.loads(file.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    except OSError as error:
        raise EmbeddedServiceError(
            f"can't read '{file}': {error.strerror}; the data directory is another user's, choose "
            "another path"
        ) from error
    return identity if identity.path == str(path) else None


def load_or_create(path: Path) -> Identity:
    """Reads a data directory's identity, or makes a new one up if it has none that can be used.

    Args:
        path: the resolved data directory
    """
    identity = load(path)
    if identity is not None and _still_usable(identity):
        return identity

    name = secrets.token_hex(8)
    milvus, control = _addresses(name)
    token = identity.token if identity is not None else secrets.token_urlsafe(32)
    return Identity(id=name, path=str(path), token=token, milvus=milvus, control=control)


def save(identity: Identity) -> None:
    """Writes an identity into its data directory, readable by this user only, if it is new."""
    directory = Path(identity.path)
    if load(directory) == identity:
        return  # a full disk need not be written to
    draft = directory / f"{paths.IDENTITY}.{os.getpid()}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(dataclasses.asdict(identity), stream, indent=1)
        draft.replace(directory / paths.IDENTITY)
    finally:
        draft.unlink(missing_ok=True)


def uses_unix_sockets() -> bool:
    """Whether new services answer on unix sockets; ``$FIFTYONE_MILVUS_TRANSPORT=tcp`` says no."""
    return hasattr(socket, "AF_UNIX") and os.environ.get(TRANSPORT_VARIABLE, "").lower() != "tcp"


def _addresses(name: str) -> tuple[str, str]:
    if uses_unix_sockets():
        directory = paths.runtime_directory()
        milvus, control = directory / f"{name}.sock", directory / f"{name}.control"
        if len(os.fsencode(control)) <= _SOCKET_PATH_BYTES:
            return f"unix:{milvus}", str(control)
    return "127.0.0.1:0", "127.0.0.1:0"


def _still_usable(identity: Identity) -> bool:
    if not identity.milvus.startswith("unix:"):
        return True
    # The temporary directory may have been another one, or emptied since.
    return uses_unix_sockets() and Path(identity.control).parent == paths.runtime_directory()
