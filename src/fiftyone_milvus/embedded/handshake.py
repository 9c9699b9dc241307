"""How a client and a service prove to each other that they know the key of this start.

Each proves it with an HMAC over nonces of both, so the key never leaves the service file. The
service proves it first: whoever took over its port learns nothing. What clients send with each call
of Milvus' protocol is a token that is derived from the key, and useless when the service has ended.
"""

from __future__ import annotations

import hmac
import secrets


def new_key() -> str:
    """Makes up the key of a start."""
    return secrets.token_hex(32)


def nonce() -> str:
    """Makes up a number that is used once."""
    return secrets.token_hex(32)


def proof(key: str, who: str, *said: str) -> str:
    """Returns the proof that ``who``, after what was said, knows the key."""
    text = "\n".join((who, *said))
    return hmac.new(key.encode(), text.encode(), "sha256").hexdigest()


def proves(found: object, expected: str) -> bool:
    """Whether a received proof or token is the expected one."""
    sent = found if isinstance(found, str) else ""
    return hmac.compare_digest(sent.encode("utf-8", "replace"), expected.encode())


def token(key: str) -> str:
    """Returns the token that calls of Milvus' protocol carry."""
    return proof(key, "milvus")
