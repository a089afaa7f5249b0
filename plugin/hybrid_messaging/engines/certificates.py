# SPDX-License-Identifier: Apache-2.0
"""A private certificate authority, and the certificate of this host.

All engines of a state directory show the same certificate. Whoever trusts the
authority, by its certificate in `AUTHORITY`, goes on trusting them: it stays when
the host's is renewed.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hybrid_messaging import whole_file
from hybrid_messaging.engines import Certificates, EngineError

#: The authority's certificate: what clients are told to trust.
AUTHORITY = "ca.pem"
AUTHORITY_KEY = "ca.key"
#: The host's key and certificate, in one file, so that they always fit.
HOST = "host.pem"

AUTHORITY_VALID = datetime.timedelta(days=3650)
HOST_VALID = datetime.timedelta(days=397)
#: A certificate that ends sooner is renewed.
MARGIN = datetime.timedelta(days=30)

_TITLE = "hybrid-messaging"
# clocks of a host and its containers differ
_SKEW = datetime.timedelta(minutes=5)


class Authority(NamedTuple):
    """A private authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, names: Iterable[str]) -> bytes:
        """A new key with its certificate, as PEM, for names and addresses of a host."""
        return _issue(self, list(map(_general_name, names)))

    def vouches_for(self, host: bytes, names: Iterable[str]) -> bool:
        """Whether a certificate is its own, for these names, and not about to end.

        :param host: PEM
        """
        certificate = parsed(host)
        return certificate is not None and _is_good(
            certificate, self.certificate, list(map(_general_name, names))
        )

    def pem(self) -> tuple[bytes, bytes]:
        """Its certificate and its key, to be stored."""
        return self.certificate.public_bytes(Encoding.PEM), _pem(self.key)


def authority(certificate: bytes, key: bytes) -> Authority | None:
    """The authority that was stored, unless it cannot be used any more.

    :param certificate: PEM
    :param key: PEM
    """
    found = parsed(certificate)
    try:
        private = load_pem_private_key(key, None)
    except ValueError:
        return None
    if (
        found is None
        or not isinstance(private, ec.EllipticCurvePrivateKey)
        or found.public_key() != private.public_key()
        or found.not_valid_after_utc - _now() < MARGIN
    ):
        return None
    return Authority(found, private)


def new_authority() -> Authority:
    """An authority that nobody knows yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _TITLE),
            # two authorities of the same name could not be told apart
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"private CA {x509.random_serial_number():x}"[:64]
            ),
        ]
    )
    certificate = (
        _builder(name, name, key.public_key(), AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def parsed(pem: bytes) -> x509.Certificate | None:
    """The first certificate of a file's content, if it holds one."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def ensure(directory: Path, addresses: Iterable[str]) -> Certificates:
    """Make what is missing, damaged, soon to end, or not about these addresses.

    :param directory: for certificates and keys, readable by its owner only
    :param addresses: names and IP addresses that clients may connect to, besides
        those of this host
    :raises EngineError: if nothing can be written there
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = _names(addresses)
        signer = _load_authority(directory) or _make_authority(directory)
        host = _load(directory / HOST)
        if host is None or not _is_good(host, signer.certificate, names):
            whole_file.write(directory / HOST, _issue(signer, names))
    except OSError as error:
        raise EngineError(
            f"cannot write certificates to {directory}: {error.strerror}"
        ) from error
    return _files(directory)


def made(directory: Path) -> Certificates:
    """Those that `ensure` has made, for whoever cannot make them.

    :raises EngineError: there are none
    """
    found = _files(directory)
    for path in (found.authority, found.host):
        try:
            certificate = _load(Path(path))
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror}") from error
        if certificate is None:
            raise EngineError(
                f"{path} has no certificate: make it with `hybrid-messaging engine"
                f" certificates {directory}`"
            )
    return found


def ends(directory: Path) -> datetime.datetime | None:
    """When the host's certificate ends, if there is one."""
    host = _load(directory / HOST)
    return host.not_valid_after_utc if host else None


def ends_soon(directory: Path) -> bool:
    """Whether `ensure` would renew the host's certificate for its age."""
    end = ends(directory)
    return end is not None and end - _now() < MARGIN


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _files(directory: Path) -> Certificates:
    return Certificates(str(directory / AUTHORITY), str(directory / HOST))


def _names(addresses: Iterable[str]) -> list[x509.GeneralName]:
    wanted = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *addresses]
    return [_general_name(name) for name in dict.fromkeys(wanted)]


def _general_name(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _load_authority(directory: Path) -> Authority | None:
    """The authority that is there, unless it cannot be used any more."""
    try:
        return authority(
            (directory / AUTHORITY).read_bytes(),
            (directory / AUTHORITY_KEY).read_bytes(),
        )
    except FileNotFoundError:
        return None


def _make_authority(directory: Path) -> Authority:
    made = new_authority()
    certificate, key = made.pem()
    # the certificate last: with it, the authority is there
    whole_file.write(directory / AUTHORITY_KEY, key)
    whole_file.write(directory / AUTHORITY, certificate, mode=0o644)
    return made


def _issue(authority: Authority, names: Sequence[x509.GeneralName]) -> bytes:
    """A new key of the host with its certificate, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _TITLE)])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        authority.key.public_key()
    )
    certificate = (
        _builder(name, authority.certificate.subject, key.public_key(), HOST_VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            # a node of a cluster is its own client
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(identifier, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _pem(key) + certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _SKEW)
        .not_valid_after(_now() + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    kinds = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{**dict.fromkeys(kinds, False), **wanted})


def _is_good(
    host: x509.Certificate,
    authority: x509.Certificate,
    names: Sequence[x509.GeneralName],
) -> bool:
    try:
        host.verify_directly_issued_by(authority)
        told = host.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    lacking = set(names) - set(told.value)
    return not lacking and host.not_valid_after_utc - _now() >= MARGIN


def _load(path: Path) -> x509.Certificate | None:
    """The certificate in a file, if it holds one."""
    try:
        return parsed(path.read_bytes())
    except FileNotFoundError:
        return None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
