"""Finds out with plain sockets why a server can't be reached; gRPC only says UNAVAILABLE."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fiftyone_milvus.connection.settings import Settings
from fiftyone_milvus.connection.target import DEFAULT_PORT, Target
from fiftyone_milvus.errors import ConnectionFailedError, TLSError, UnreachableError

# OpenSSL's X509_V_ERR_* codes
_NOT_YET_VALID, _EXPIRED = 9, 10
_MISMATCHES = (62, 63, 64)  # of the host name, the email or the IP address
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXEMPT = ("no_grpc_proxy", "no_proxy")


def proxy_of(target: Target) -> tuple[str, str] | None:
    """Returns the proxy through which gRPC reaches a server, which plain sockets do not use.

    Returns:
        the environment variable that names it and its address without credentials; or None
    """
    if target.local:
        return None
    exempt = next(filter(None, map(os.environ.get, _EXEMPT)), "")
    if any(name and target.host.endswith(name) for name in map(str.strip, exempt.split(","))):
        return None
    name = next((name for name in _PROXIES if os.environ.get(name)), None)
    return None if name is None else (name, os.environ[name].rpartition("@")[2])


def diagnose(target: Target, *, timeout: float = 0.5) -> ConnectionFailedError | None:
    """Finds out why gRPC got no answer.

    Args:
        target: a server
        timeout: seconds for each of at most two attempts

    Returns:
        the error to raise, or None if nothing is wrong
    """
    if target.path is not None:
        return None
    if (proxy := proxy_of(target)) is not None:
        name, address = proxy
        return UnreachableError(
            f"Milvus at {target.address} does not answer through the proxy '{address}', which the "
            f"environment variable {name} names: check both, or add '{target.host}' to no_proxy"
        )
    if not target.host:
        return _unix_problem(target, timeout)
    if (problem := _tcp_problem(target, timeout)) is not None:
        return problem
    if target.tls:
        return tls_problem(target, timeout=timeout)
    if _speaks_tls(target, timeout):
        return TLSError(
            f"Milvus at {target.address} requires TLS: use 'https://{target.host}:{target.port}', "
            "with 'ca_pem_path' if its certificate is not signed by a public authority"
        )
    return _other_program(target, timeout)


def greeting(target: Target, timeout: float) -> bytes | None:
    """Returns the first bytes of the answer to gRPC's greeting, if it is not gRPC's.

    Returns:
        ``b""`` if the connection is closed at once, as by MongoDB; None if what listens speaks
        HTTP/2, or says nothing in time
    """
    try:
        with socket.create_connection((target.host, target.port), timeout=timeout) as sock:
            sock.sendall(HTTP2_PREFACE)
            answer = sock.recv(16)
    except ConnectionError:
        return b""
    except OSError:
        return None
    # The first frame of HTTP/2 is of type 4, the settings
    return None if answer[3:4] == b"\x04" and not answer.startswith(b"HTTP") else answer


def _other_program(target: Target, timeout: float) -> UnreachableError | None:
    """Returns an error if what listens does not speak gRPC, as far as it says so in time."""
    answer = greeting(target, timeout)
    if answer is None:
        return None
    port = f"check the port in 'uri', which is {DEFAULT_PORT} unless the server is set up otherwise"
    if not answer:
        # Docker accepts connections for a container that does not listen yet
        return UnreachableError(
            f"Milvus does not answer at {target.address}: what listens there closes the "
            f"connection; wait if Milvus is starting, or {port}"
        )
    what = "an HTTP server" if answer.startswith(b"HTTP/") else "a program that speaks no gRPC"
    return UnreachableError(
        f"Milvus does not answer at {target.address}: {what} listens there; {port}"
    )


def tls_problem(target: Target, *, timeout: float) -> ConnectionFailedError | None:
    """Does a TLS handshake as gRPC does; returns what is wrong with it, or None."""
    try:
        with _tls(target, timeout) as sock:
            # In TLS 1.3 a server refuses the client's certificate only after the handshake
            sock.sendall(HTTP2_PREFACE)
            sock.recv(1)
    except ssl.SSLCertVerificationError as error:
        return TLSError(_distrust(target, error))
    except ssl.SSLError as error:
        return _handshake_problem(target, error)
    except OSError:
        return None
    return None


def certificate_days(target: Target, *, timeout: float = 2.0) -> int | None:
    """Returns for how many more days a server's certificate is valid, or None if not known.

    Args:
        target: a server with TLS
        timeout: seconds
    """
    if proxy_of(target) is not None:
        return None
    try:
        with _tls(target, timeout) as sock:
            end = (sock.getpeercert() or {}).get("notAfter")
    except OSError:
        return None
    if not isinstance(end, str):
        return None
    return int((ssl.cert_time_to_seconds(end) - time.time()) // 86_400)


@contextmanager
def _tls(target: Target, timeout: float) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((target.host, target.port), timeout=timeout) as raw,
        _context(target.settings).wrap_socket(raw, server_hostname=_name(target)) as sock,
    ):
        yield sock


def _name(target: Target) -> str:
    return target.settings.server_name or target.host


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.root_path)
    context.set_alpn_protocols(["h2"])
    # As gRPC, trust a server's own certificate in place of an authority's, and old ones
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if settings.client_pem_path and settings.client_key_path:
        context.load_cert_chain(settings.client_pem_path, settings.client_key_path, "")
    return context


def _tcp_problem(target: Target, timeout: float) -> UnreachableError | None:
    where = f"Milvus does not answer at {target.address}"
    try:
        socket.create_connection((target.host, target.port), timeout=timeout).close()
    except socket.gaierror:
        return UnreachableError(f"{where}: no host is called '{target.host}'; check 'uri'")
    except ConnectionRefusedError:
        return UnreachableError(
            f"{where}: nothing listens there; start Milvus, check 'uri', "
            "or leave 'uri' out to use the embedded engine"
        )
    except TimeoutError:
        return UnreachableError(
            f"{where}: no response; check 'uri', that Milvus runs, and firewalls between"
        )
    except OSError as error:
        return UnreachableError(f"{where}: {(error.strerror or str(error)).lower()}; check 'uri'")
    return None


def _unix_problem(target: Target, timeout: float) -> UnreachableError | None:
    path = target.address.removeprefix("unix:").removeprefix("//")
    if not hasattr(socket, "AF_UNIX"):
        return None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return UnreachableError(
                f"Milvus does not answer at {target.address}: {reason}; "
                "start Milvus, or check 'uri'"
            )
    return None


def _speaks_tls(target: Target, timeout: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection((target.host, target.port), timeout=timeout) as raw,
        context.wrap_socket(raw, server_hostname=target.host),
    ):
        return True
    return False


def _distrust(target: Target, error: ssl.SSLCertVerificationError) -> str:
    who = f"Milvus at {target.address}"
    if error.verify_code in _MISMATCHES:
        return (
            f"{who} shows a certificate for another host than '{_name(target)}': "
            "use the name in the certificate, in 'uri' or as 'server_name'"
        )
    if error.verify_code == _EXPIRED:
        return f"{who} shows a certificate that has expired: renew it on the server"
    if error.verify_code == _NOT_YET_VALID:
        return f"{who} shows a certificate that is not valid yet: check both machines' clocks"
    trusted = target.settings.root_path
    if trusted is None:
        return (
            f"{who} shows a certificate that no public authority signed: "
            "pass the authority's certificate as 'ca_pem_path'"
        )
    return (
        f"{who} shows a certificate that is not trusted by '{trusted}' "
        f"({error.verify_message}): pass the server's authority as 'ca_pem_path'"
    )


def _handshake_problem(target: Target, error: ssl.SSLError) -> TLSError:
    reason = (error.reason or str(error)).upper()
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason or "PACKET_LENGTH" in reason:
        return TLSError(
            f"Milvus at {target.address} does not speak TLS: use 'http://', and 'secure' only "
            "with a server that has TLS enabled"
        )
    if "ALERT" in reason:
        if target.settings.client_pem_path is None:
            return TLSError(
                f"Milvus at {target.address} requires a client certificate: pass "
                "'client_pem_path', 'client_key_path' and 'ca_pem_path'"
            )
        return TLSError(
            f"Milvus at {target.address} refuses the client certificate "
            f"'{target.settings.client_pem_path}': pass one signed by the server's authority"
        )
    return TLSError(
        f"TLS with Milvus at {target.address} fails ({reason.lower()}): check its certificates"
    )
