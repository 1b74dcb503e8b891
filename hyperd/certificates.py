"""Certificates for TCP: an authority, and servers and clients that it vouches for. Made with cryptography, kept as PEM files."""

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hyperd.errors import ConflictError, InvalidError, UnavailableError

AUTHORITY_DAYS = 3650
_SKEW = timedelta(minutes=5)
_NAME_MAX = 64
# A name of DNS, whose first part may be a star.
_HOST = re.compile(r"(?=.{1,253}$)(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def make_authority(folder: Path, name: str = "hyperd", days: int = AUTHORITY_DAYS) -> Path:
    """``ca.pem`` and ``ca-key.pem`` in ``folder``; the path of the first.

    :raise ConflictError: there is one already
    """
    certificate, key_file = folder / "ca.pem", folder / "ca-key.pem"
    if certificate.exists() or key_file.exists():
        raise ConflictError(f"{folder} has an authority already", hint="choose another folder: all that it vouched for would be lost")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, {key_file: _pem_key(key), certificate: built.public_bytes(serialization.Encoding.PEM)})
    return certificate


def issue(folder: Path, kind: Literal["server", "client"], name: str, hosts: tuple[str, ...] = (), days: int = 365) -> tuple[Path, Path]:
    """``NAME.pem`` and ``NAME-key.pem``, vouched for by the authority in ``folder``.

    :param hosts: names and addresses that a server is reached by; ``name`` is one of them if none is given
    :raise InvalidError: a name cannot be
    :raise UnavailableError: there is no authority
    :raise ConflictError: there is one of that name
    """
    if kind == "server":
        check_hosts(hosts or (name,))
    if not name or "/" in name or name.startswith(".") or len(name) > _NAME_MAX or name == "ca":
        raise InvalidError(f"cannot name a certificate {name!r}", hint="it becomes the name of a file")
    certificate, key_file = folder / f"{name}.pem", folder / f"{name}-key.pem"
    if certificate.exists() or key_file.exists():
        raise ConflictError(f"{folder} has a certificate {name} already", hint="choose another name, or move it away with its key")
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if kind == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(name), authority.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if kind == "server":
        names = [_host(host) for host in hosts or (name,)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    built = builder.sign(authority_key, hashes.SHA256())
    _write(folder, {key_file: _pem_key(key), certificate: built.public_bytes(serialization.Encoding.PEM)})
    return certificate, key_file


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
    except (OSError, ValueError) as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or error
        raise UnavailableError(f"cannot use the authority in {folder}: {cause}", hint="`hyperd cert init` makes one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnavailableError(f"cannot use the authority in {folder}: its key is of another kind")
    return certificate, key


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def check_hosts(hosts: Iterable[str]) -> None:
    """:raise InvalidError: one is neither a name nor an address"""
    for host in hosts:
        _host(host)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass  # then it is a name
    if not _HOST.fullmatch(text):
        raise InvalidError(f"not a host's name or address: {text!r}", hint="it is written node1.example or 192.0.2.1")
    return x509.DNSName(text)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write(folder: Path, files: dict[Path, bytes]) -> None:
    """All of them or none; keys are for their owner alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, data in files.items():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if "-key" in path.name else 0o644)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
    except OSError as error:
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        raise UnavailableError(f"cannot write to {folder}: {error.strerror or error}") from error
