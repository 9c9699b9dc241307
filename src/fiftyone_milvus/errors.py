"""The exceptions of this package.

Each is a ``ValueError``, like the errors of FiftyOne's other backends. A message is one line that
says what is wrong and what to do, as the FiftyOne App shows only ``str(error)``.
"""

from __future__ import annotations

from typing import Any

_OURS = "fiftyone-milvus"
_SHOWN = 80


class FiftyOneMilvusError(ValueError):
    """The base class of the exceptions of this package."""


class InvalidInputError(FiftyOneMilvusError):
    """A parameter, query or embedding can't be used."""


class DimensionMismatchError(InvalidInputError):
    """Embeddings or a query have another dimension than the index."""


class InvalidVectorError(InvalidInputError):
    """A vector contains NaN or infinity, or is zero and the metric is cosine."""


class ExistingIDsError(InvalidInputError):
    """IDs are in the index already, and the call does not allow that."""


class MissingIDsError(InvalidInputError):
    """IDs are not in the index, and the call does not allow that."""


class CollectionError(FiftyOneMilvusError):
    """A Milvus collection can't be used as this index."""


class CollectionNotFoundError(CollectionError):
    """The collection does not exist, or does not exist any more."""


class CollectionMismatchError(CollectionError):
    """The collection has other fields, or another metric or owner, than this index."""


class CollectionDamagedError(CollectionError):
    """Files of the collection are damaged; ``fiftyone-milvus doctor --repair`` repairs them."""


class ConnectionFailedError(FiftyOneMilvusError, ConnectionError):
    """Milvus can't be reached or refuses the connection."""


class UnreachableError(ConnectionFailedError):
    """Nothing answers at the address."""


class AuthenticationError(ConnectionFailedError):
    """The user, password or token is wrong or missing."""


class DatabaseNotFoundError(ConnectionFailedError):
    """The Milvus database does not exist."""


class TLSError(ConnectionFailedError):
    """A certificate is missing, not trusted, or for another host."""


class FiftyOneDatabaseError(FiftyOneMilvusError, ConnectionError):
    """FiftyOne's database, a MongoDB, does not answer."""


class PermissionDeniedError(FiftyOneMilvusError):
    """The user of the connection lacks a privilege."""


class EmbeddedServiceError(FiftyOneMilvusError):
    """The service of the embedded engine can't start, or does not answer."""


class EngineError(FiftyOneMilvusError):
    """Milvus refused an operation for another reason."""


class NotLoadedError(EngineError):
    """The collection is not loaded; somebody released it."""


class WorkerError(FiftyOneMilvusError):
    """Workers of ``sync(workers=...)`` or ``sync(ray=...)`` can't start, or end again and again."""


def shown(value: Any) -> str:
    """Returns a value that a caller passed for a message: one line, not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def one_line(error: BaseException) -> str:
    """Returns the text of an error in one line, with its class where it says too little without."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    if not text:
        return kind
    # Errors of this package, and most of FiftyOne, say what is wrong without their class
    return text if isinstance(error, ValueError) else f"{kind}: {text}"


def incompatible(package: str, what: str) -> str:
    """Returns the message for an installed package that lacks what this package needs of it.

    Args:
        package: its name on PyPI, one of this package's dependencies
        what: what it lacks, as in ``"no MilvusClient"``

    Returns:
        one line that names the versions that work, and the remedy
    """
    # Not at the top, as the command line waits for it
    from importlib.metadata import requires, version

    names = (text.partition(";")[0] for text in requires(_OURS) or ())
    works = next((name for name in names if name.rstrip("<>=.,0123456789 ") == package), package)
    # A wheel's metadata has the upper bound first
    bounds = sorted(works[len(package) :].split(","), reverse=True)
    works, oldest = package + ",".join(bounds), bounds[0].removeprefix(">=")
    return (
        f"{package} {version(package)} has {what}; {_OURS} {version(_OURS)} works with {works}: "
        f"run pip install --upgrade {_OURS}, or pip install {package}=={oldest}"
    )
