"""A certificate authority, a server's and a client's certificate, made in a moment."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files. ``stranger_*`` are signed by an authority that nobody trusts.

    ``expired`` and the servers' names: ``localhost``, ``127.0.0.1`` and ``milvus.example``.
    """

    ca: str
    server: str
    server_key: str
    client: str
    client_key: str
    stranger_ca: str
    stranger: str
    stranger_key: str


def make_certificates(folder: Path) -> Certificates:
    """Writes a fresh set of PEM files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key = _authority("Test CA", folder / "ca.pem")
    _leaf("server", ca, ca_key, folder / "server.pem", folder / "server.key")
    _leaf("client", ca, ca_key, folder / "client.pem", folder / "client.key")
    other, other_key = _authority("Stranger CA", folder / "stranger-ca.pem")
    _leaf("stranger", other, other_key, folder / "stranger.pem", folder / "stranger.key")
    return Certificates(
        ca=str(folder / "ca.pem"),
        server=str(folder / "server.pem"),
        server_key=str(folder / "server.key"),
        client=str(folder / "client.pem"),
        client_key=str(folder / "client.key"),
        stranger_ca=str(folder / "stranger-ca.pem"),
        stranger=str(folder / "stranger.pem"),
        stranger_key=str(folder / "stranger.key"),
    )


def _builder(subject: x509.Name, issuer: x509.Name, public: object) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority(name: str, path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(_name(name), _name(name), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _leaf(
    name: str, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, path: Path, key_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("milvus.example")]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _builder(_name(name), ca.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key_path.chmod(0o600)
