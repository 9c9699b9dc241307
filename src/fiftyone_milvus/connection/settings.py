"""What the user said about where Milvus is and how to get in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from fiftyone_milvus.errors import InvalidInputError

CREDENTIALS = (
    "uri",
    "user",
    "password",
    "secure",
    "token",
    "db_name",
    "client_key_path",
    "client_pem_path",
    "ca_pem_path",
    "server_pem_path",
    "server_name",
)
"""The connection parameters, none of which is ever stored with a dataset."""

_ENVIRONMENT = "FIFTYONE_BRAIN_SIMILARITY_MILVUS_"
_SECRET = frozenset({"user", "password", "token"})
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True)
class Settings:
    """The connection parameters, each None where the user said nothing.

    Attributes:
        uri: ``http(s)://host:port``, ``host:port``, ``unix:/path`` or a path that ends in ``.db``,
            without credentials
        user: the Milvus user
        password: its password
        secure: whether to use TLS; None follows ``uri`` and the certificates
        token: ``"user:password"`` or an API key; wins over ``user`` and ``password``
        db_name: the Milvus database; None is the server's default database
        client_key_path: PEM file with the client certificate's private key (mutual TLS)
        client_pem_path: PEM file with the client certificate (mutual TLS)
        ca_pem_path: PEM file with the certificate authority to trust
        server_pem_path: PEM file with the server certificate to trust
        server_name: the name to expect in the server certificate, if it is not the host's
    """

    uri: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    secure: bool | None = None
    token: str | None = field(default=None, repr=False)
    db_name: str | None = None
    client_key_path: str | None = None
    client_pem_path: str | None = None
    ca_pem_path: str | None = None
    server_pem_path: str | None = None
    server_name: str | None = None

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Settings:
        """Reads connection parameters as the user wrote them.

        FiftyOne casts environment variables: the password ``123456`` arrives as an int, ``a,b`` as
        a list, ``true`` as a bool. Such values are replaced by the variable's text. Credentials and
        a database in ``uri`` are split off; what is given by name wins over them.

        Args:
            values: parameters by name; names other than :data:`CREDENTIALS` are ignored

        Raises:
            InvalidInputError: if a value has the wrong type or values contradict each other
        """
        written = {name: _text(name, values.get(name)) for name in CREDENTIALS}
        parsed: dict[str, Any] = dict(written)
        parsed["secure"] = _boolean(written["secure"])
        if written["uri"] is not None:
            parsed["uri"], implied = _split_uri(written["uri"].strip())
            if any(parsed[name] is not None for name in ("user", "password", "token")):
                implied = {"db_name": implied.get("db_name")}
            for name, value in implied.items():
                parsed[name] = parsed[name] if parsed[name] is not None else value
        settings = cls(**parsed)
        settings._check()
        return settings

    def _check(self) -> None:
        if self.token is None and (self.user is None) != (self.password is None):
            given, missing = ("user", "password") if self.user is not None else ("password", "user")
            raise InvalidInputError(
                f"Milvus got a '{given}' but no '{missing}': pass both, or a 'token'"
            )
        if (self.client_pem_path is None) != (self.client_key_path is None):
            given, missing = "client_pem_path", "client_key_path"
            if self.client_pem_path is None:
                given, missing = missing, given
            raise InvalidInputError(
                f"Milvus got a '{given}' but no '{missing}': mutual TLS needs both"
            )
        if self.client_pem_path is not None and self.root_path is None:
            raise InvalidInputError(
                "Milvus got a 'client_pem_path' but no 'ca_pem_path': mutual TLS needs both"
            )

    @property
    def root_path(self) -> str | None:
        """The PEM file whose certificates are trusted; None trusts the public authorities."""
        return self.ca_pem_path or self.server_pem_path

    @property
    def tls_files(self) -> dict[str, str]:
        """The PEM files given, by parameter name."""
        names = [entry.name for entry in fields(self) if entry.name.endswith("_path")]
        return {name: path for name in names if (path := getattr(self, name)) is not None}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may contain."""
        secrets = {self.password, self.token}
        if self.token and ":" in self.token:
            secrets.add(self.token.split(":", 1)[1])
        return tuple(sorted((s for s in secrets if s), key=len, reverse=True))


def _text(name: str, value: object) -> str | None:
    """The text that the user wrote for a parameter; None if there is none."""
    if not isinstance(value, str):
        value = _uncast(name, value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if name == "secure" and isinstance(value, bool):
        value = str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        shown = "" if name in _SECRET else f", got {value!r}"
        raise InvalidInputError(
            f"Milvus parameter '{name}' must be a string, not {type(value).__name__}{shown}: "
            "write it in quotes"
        )
    if name.endswith("_path"):
        return os.path.abspath(os.path.expanduser(value))
    return value


def _uncast(name: str, value: object) -> object:
    """The environment variable's text, where FiftyOne made ``value`` of it."""
    for variable, raw in os.environ.items():
        if (
            variable.startswith(_ENVIRONMENT)
            and variable[len(_ENVIRONMENT) :].lower() == name
            and raw not in ("", "None")
            and repr(_cast(raw)) == repr(value)
        ):
            return raw
    return value


def _cast(raw: str) -> object:
    """What FiftyOne's brain config makes of an environment variable."""
    with suppress(ValueError):
        return int(raw)
    with suppress(ValueError):
        return float(raw)
    constants = {"True": True, "true": True, "False": False, "false": False, "None": None, "": None}
    if raw in constants:
        return constants[raw]
    return [_cast(part) for part in raw.split(",")] if "," in raw else raw


def _boolean(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.strip().lower() in _TRUE | _FALSE:
        return text.strip().lower() in _TRUE
    raise InvalidInputError(f"Milvus parameter 'secure' must be true or false, got {text!r}")


def _split_uri(uri: str) -> tuple[str, dict[str, str | None]]:
    """Splits an URI into what may be shown and the credentials and database in it."""
    if "://" not in uri and "@" in uri and not uri.endswith(".db"):
        uri = f"http://{uri}"
    if "://" not in uri:
        return uri, {}
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(_bad_uri(uri)) from error
    if not host:
        raise InvalidInputError(_bad_uri(uri))
    implied: dict[str, str | None] = {}
    if parts.username:
        user = unquote(parts.username)
        # An API key stands alone before the @, as pymilvus reads it.
        if parts.password:
            implied = {"user": user, "password": unquote(parts.password)}
        else:
            implied = {"token": user}
    database = parts.path.strip("/").split("/")[0]
    if database:
        implied["db_name"] = unquote(database)
    shown = SplitResult(parts.scheme.lower(), parts.netloc.rpartition("@")[2], "", "", "")
    return shown.geturl(), implied


def _bad_uri(uri: str) -> str:
    shown = uri.rpartition("@")[2] if "@" in uri else uri
    return (
        f"'{shown}' is not an address of Milvus: "
        "use 'http(s)://host:port', or a path that ends in '.db'"
    )
