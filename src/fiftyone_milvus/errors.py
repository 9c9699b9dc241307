"""Every exception of this package.

All are ``ValueError``s, as those of FiftyOne's other backends are, and each message is one line
that says what is wrong and what to do: the FiftyOne App shows nothing but ``str(e)``.

::

    FiftyOneMilvusError(ValueError)
    ├── InvalidInputError            a parameter, query or embedding that can't be used
    │   ├── DimensionMismatchError   embeddings or a query of another dimension than the index
    │   ├── InvalidVectorError       NaN, infinity, or a zero vector under cosine
    │   ├── ExistingIDsError         IDs that are in the index and may not be
    │   └── MissingIDsError          IDs that are not in the index and must be
    ├── CollectionError              the collection can't be used as this index
    │   ├── CollectionNotFoundError  it does not exist (any more)
    │   └── CollectionMismatchError  its fields, metric or owner are not this index's
    ├── ConnectionFailedError(ConnectionError)
    │   ├── UnreachableError         nothing answers at the address
    │   ├── AuthenticationError      wrong or missing user, password or token
    │   ├── DatabaseNotFoundError    the Milvus database does not exist
    │   └── TLSError                 certificates are missing or not trusted
    ├── PermissionDeniedError        this user may not do that
    ├── EmbeddedServiceError         the local Milvus Lite service can't start or serve
    └── EngineError                  anything else that Milvus refused
"""

from __future__ import annotations

from importlib.metadata import requires, version

_OURS = "fiftyone-milvus"


class FiftyOneMilvusError(ValueError):
    """Base class of this package's errors."""


class InvalidInputError(FiftyOneMilvusError):
    """A parameter, query or embedding can't be used."""


class DimensionMismatchError(InvalidInputError):
    """Embeddings or a query have another dimension than the index."""


class InvalidVectorError(InvalidInputError):
    """A vector holds NaN or infinity, or is zero where the metric is cosine."""


class ExistingIDsError(InvalidInputError):
    """IDs are in the index already and were not allowed to be."""


class MissingIDsError(InvalidInputError):
    """IDs are not in the index and were required to be."""


class CollectionError(FiftyOneMilvusError):
    """A Milvus collection can't be used as this index."""


class CollectionNotFoundError(CollectionError):
    """The collection does not exist, or was dropped meanwhile."""


class CollectionMismatchError(CollectionError):
    """The collection's fields, metric or owner are not those of this index."""


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


class PermissionDeniedError(FiftyOneMilvusError):
    """The connected user lacks a privilege."""


class EmbeddedServiceError(FiftyOneMilvusError):
    """The local Milvus Lite service can't start or serve."""


class EngineError(FiftyOneMilvusError):
    """Milvus refused an operation for a reason of its own."""


def incompatible(package: str, what: str) -> str:
    """Returns the message for an installed package that lacks what this package needs of it.

    Args:
        package: its name on PyPI, one of this package's dependencies
        what: what it lacks, as in ``"no MilvusClient"``

    Returns:
        one line that names the versions that work, and the remedy
    """
    names = (text.partition(";")[0] for text in requires(_OURS) or ())
    works = next((name for name in names if name.rstrip("<>=.,0123456789 ") == package), package)
    oldest = next((v for v in works[len(package) :].split(",") if v.startswith(">=")), "")[2:]
    return (
        f"{package} {version(package)} has {what}; {_OURS} {version(_OURS)} works with {works}: "
        f"run pip install --upgrade {_OURS}, or pip install {package}=={oldest}"
    )
