# SPDX-License-Identifier: Apache-2.0
"""TLS and SASL of a client connection, set up on qpid-proton's transport."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import proton
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers.amqp.hosts import Host


def wants_tls(options: Any) -> bool:
    """Whether any option switches TLS on."""
    return bool(options.ssl or options.ssl_ca_file or options.ssl_cert_file)


def setup(
    options: Any,
    host: Host,
    vhost: str | None,
    transport: proton.Transport,
    connection: proton.Connection,
) -> None:
    """Prepare a transport and a connection that are not bound yet.

    :param options: the [oslo_messaging_amqp] group
    :param vhost: virtual host of the transport URL
    :raises ConfigurationError: a file that an option names cannot be used
    """
    _sasl(options, host, transport, connection)
    if wants_tls(options):
        _tls(options, _peer_name(options, host, vhost), transport)


def pin(
    options: Any, host: Host, vhost: str | None, dial: Callable[[], socket.socket]
) -> str | None:
    """The fingerprint that the peer's certificate must have.

    qpid-proton compares names, but not addresses, with a certificate. Where the
    peer is known by its address, a connection that serves for nothing else shows
    the certificate; Python's own TLS verifies it.

    :param dial: connects to the peer
    :returns: None where qpid-proton verifies the peer itself
    :raises OSError: the certificate is not the peer's, or cannot be had
    """
    name = _peer_name(options, host, vhost)
    if not wants_tls(options) or not _is_address(name):
        return None
    authorities = options.ssl_ca_file
    kind = "capath" if Path(authorities).is_dir() else "cafile"
    context = ssl.create_default_context(**{kind: authorities} if authorities else {})
    if options.ssl_cert_file:
        key = options.ssl_key_file or options.ssl_cert_file
        context.load_cert_chain(options.ssl_cert_file, key, options.ssl_key_password)
    with dial() as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(transport: proton.Transport) -> str | None:
    """The fingerprint of the peer's certificate; None until it has shown it."""
    # finds the one that the transport has
    tls = proton.SSL(transport, None)  # type: ignore[arg-type]
    if tls.protocol_name() is None:
        return None
    return tls.get_cert_fingerprint(_SHA256_LENGTH, proton.SSL.SHA256)


def is_distrust(reason: str) -> bool:
    """Whether a connection failed because one end does not trust the other."""
    return any(word in reason for word in ("certificate", "unknown ca"))


#: as hexadecimal text, with the zero byte at its end
_SHA256_LENGTH = 65


def _peer_name(options: Any, host: Host, vhost: str | None) -> str:
    if not options.ssl_verify_vhost:
        return host.name
    if not vhost:
        raise ConfigurationError(
            "[oslo_messaging_amqp] ssl_verify_vhost: the transport URL has no"
            " virtual host for the certificate to name"
        )
    return vhost


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _tls(options: Any, name: str, transport: proton.Transport) -> None:
    if not proton.SSL.present():
        raise ConfigurationError(
            "python-qpid-proton was built without TLS: install the OpenSSL headers"
            " (libssl-dev or openssl-devel) and pkg-config, then reinstall it with"
            " pip install --force-reinstall --no-binary :all: python-qpid-proton"
        )
    domain = proton.SSLDomain(proton.SSLDomain.MODE_CLIENT)
    authorities = options.ssl_ca_file or _system_authorities()
    _readable("ssl_ca_file", authorities)
    try:
        domain.set_trusted_ca_db(authorities)
    except proton.SSLException as error:
        raise ConfigurationError(
            f"[oslo_messaging_amqp] ssl_ca_file {authorities}: {error}"
        ) from error
    if options.ssl_cert_file:
        key = options.ssl_key_file or options.ssl_cert_file
        _readable("ssl_cert_file", options.ssl_cert_file)
        _readable("ssl_key_file", key)
        try:
            domain.set_credentials(
                options.ssl_cert_file, key, options.ssl_key_password or None
            )
        except proton.SSLException as error:
            raise ConfigurationError(
                f"[oslo_messaging_amqp] ssl_cert_file {options.ssl_cert_file},"
                f" ssl_key_file {key}: {error}; do they belong together, and is"
                " ssl_key_password right?"
            ) from error
    domain.set_peer_authentication(
        proton.SSLDomain.VERIFY_PEER
        if _is_address(name)
        else proton.SSLDomain.VERIFY_PEER_NAME
    )
    proton.SSL(transport, domain).peer_hostname = name


def _system_authorities() -> str:
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or paths.openssl_cafile


def _readable(option: str, name: str) -> None:
    try:
        if Path(name).is_dir():
            return
        with Path(name).open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"[oslo_messaging_amqp] {option} {name}: {error.strerror}"
        ) from error


def _sasl(
    options: Any,
    host: Host,
    transport: proton.Transport,
    connection: proton.Connection,
) -> None:
    sasl = transport.sasl()
    # As with every other transport URL, the password is encrypted on the wire only
    # where TLS is switched on.
    sasl.allow_insecure_mechs = True
    if options.sasl_config_dir:
        sasl.config_path(options.sasl_config_dir)
    if options.sasl_config_name:
        sasl.config_name(options.sasl_config_name)
    if host.username:
        connection.user = host.username
        connection.password = host.password or ""
    if options.sasl_mechanisms:
        sasl.allowed_mechs(options.sasl_mechanisms)
    elif not host.username:
        sasl.allowed_mechs(
            "EXTERNAL ANONYMOUS" if options.ssl_cert_file else "ANONYMOUS"
        )
