"""The connection parameters, as the user wrote them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.numbers import as_integer

_ENVIRONMENT = "FIFTYONE_BRAIN_SIMILARITY_MILVUS_"
_SECRET = frozenset({"user", "password", "token"})
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class Secret(str):
    """A text that local variables in a traceback do not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Settings:
    """The connection parameters; None where the user gave none.

    Attributes:
        uri: ``http(s)://host:port``, ``host:port``, ``unix:/path`` or a path that ends in ``.db``,
            without credentials
        user: the Milvus user
        password: its password
        secure: whether to use TLS; None to decide by ``uri`` and the certificates
        token: ``"user:password"`` or an API key; used instead of ``user`` and ``password``
        db_name: the Milvus database; None for the server's default database
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
        """Reads connection parameters.

        FiftyOne casts environment variables: the password ``123456`` becomes an int, ``a,b`` a
        list, ``true`` a bool. Such a value is replaced by the text of the variable. Credentials and
        a database in ``uri`` are split off, and used unless given by name.

        Args:
            values: parameters by name; names other than :data:`CREDENTIALS` are ignored

        Raises:
            InvalidInputError: if a value has the wrong type or values contradict each other
        """
        written = {name: _text(name, values.get(name)) for name in CREDENTIALS}
        del values
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
        pairs = [("client_pem_path", "client_key_path", "mutual TLS needs both")]
        if self.token is None:
            pairs.insert(0, ("user", "password", "pass both, or a 'token'"))
        for one, other, remedy in pairs:
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                given, missing = (other, one) if getattr(self, one) is None else (one, other)
                raise InvalidInputError(f"Milvus got a '{given}' but no '{missing}': {remedy}")
        if self.client_pem_path is not None and self.root_path is None:
            raise InvalidInputError(
                "Milvus got a 'client_pem_path' but no 'ca_pem_path': mutual TLS needs both"
            )

    @property
    def root_path(self) -> str | None:
        """The PEM file with the certificates to trust; None for the public authorities."""
        return self.ca_pem_path or self.server_pem_path

    @property
    def tls_files(self) -> dict[str, str]:
        """The PEM files that were given, by parameter."""
        names = [entry.name for entry in fields(self) if entry.name.endswith("_path")]
        return {name: path for name in names if (path := getattr(self, name)) is not None}

    @property
    def login(self) -> str | None:
        """The token, or ``user:password``; None if there is neither."""
        if self.token or not (self.user and self.password):
            return self.token
        return Secret(f"{self.user}:{self.password}")

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of the given parameters that tell a server who asks."""
        names = ("token", "user", "password", "client_pem_path", "client_key_path")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that no message may contain, longest first."""
        secrets = {self.password, self.token}
        if self.token and ":" in self.token:
            secrets.add(self.token.split(":", 1)[1])
        return tuple(sorted((Secret(s) for s in secrets if s), key=len, reverse=True))


CREDENTIALS = tuple(field.name for field in fields(Settings))
"""The names of the connection parameters, none of which is ever stored with a dataset."""


def _text(name: str, value: object) -> str | None:
    """Returns the text that the user wrote for a parameter, or None."""
    if not isinstance(value, str):
        value = _uncast(name, value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if as_integer(value) is not None or (name == "secure" and isinstance(value, bool)):
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
    return Secret(value) if name in ("password", "token") or "@" in value else value


def _uncast(name: str, value: object) -> object:
    """Returns the text of the environment variable that FiftyOne has cast to ``value``."""
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
    """Casts an environment variable as FiftyOne's brain config does."""
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
    """Splits a URI into an address that may be shown, and the credentials and database in it."""
    if "://" not in uri and "@" in uri and not uri.endswith(".db"):
        uri = f"http://{uri}"
    if "://" not in uri:
        return uri, {}
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(_bad_uri(uri)) from error
    place = parts.netloc.rpartition("@")[2]
    if not host or ("[" in place and not re.fullmatch(r"\[[^\[\]]+\](:\d*)?", place)):
        raise InvalidInputError(_bad_uri(uri))
    implied: dict[str, str | None] = {}
    if parts.username:
        user = unquote(parts.username)
        # Before the @ stands user:password, or only an API key, as pymilvus reads it
        if parts.password:
            implied = {"user": user, "password": Secret(unquote(parts.password))}
        else:
            implied = {"token": Secret(user)}
    database = parts.path.strip("/").split("/")[0]
    if database:
        implied["db_name"] = unquote(database)
    shown = SplitResult(parts.scheme.lower(), place, "", "", "")
    return shown.geturl(), implied


def _bad_uri(uri: str) -> str:
    shown = uri.rpartition("@")[2] if "@" in uri else uri
    return (
        f"'{shown}' is not an address of Milvus: "
        "use 'http(s)://host:port', or a path that ends in '.db'"
    )
