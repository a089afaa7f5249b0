# SPDX-License-Identifier: Apache-2.0
"""TLS and SASL of a client connection, set up on qpid-proton's transport."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Any

import proton
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging import tls
from hybrid_messaging.drivers import forks, tls_files
from hybrid_messaging.drivers.amqp import steps
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.steps import Steps
from hybrid_messaging.protocol import tls_domain


def wants_tls(options: Any) -> bool:
    """Whether any option switches TLS on."""
    return bool(options.ssl or options.ssl_ca_file or options.ssl_cert_file)


class Security:
    """How a bus shows who it is, and what its peers have to show.

    Where a certificate's alternative names lack a peer, qpid-proton takes its common
    name, which RFC 9525 forbids, and it compares no addresses. So Python's own TLS
    verifies the peer, over a connection that serves for nothing else, and on the one
    that serves, the peer has to show a certificate that was verified.

    :param options: the [oslo_messaging_amqp] group
    :param vhost: virtual host of the transport URL
    """

    def __init__(self, options: Any, vhost: str | None) -> None:
        self._options = options
        self._vhost = vhost
        #: fingerprints of certificates, by the name that they were found to have
        self._verified: dict[str, set[str]] = {}
        #: one that was shown and not known, by the name that it should have
        self._unknown: dict[str, str] = {}

    def check(self) -> None:
        """See that the files which the options name can be used.

        :raises ConfigurationError: one cannot
        """
        if wants_tls(self._options):
            _domain(self._options)

    def setup(
        self, host: Host, transport: proton.Transport, connection: proton.Connection
    ) -> None:
        """Prepare a transport and a connection that are not bound yet.

        :raises ConfigurationError: a file that an option names cannot be used
        """
        _sasl(self._options, host, transport, connection)
        if wants_tls(self._options):
            _tls(self._options, self.name(host), transport)
        if self._vhost and not self._options.pseudo_vhost:
            connection.hostname = self._vhost

    def name(self, host: Host) -> str:
        """The name or address that the certificate of a host has to have.

        :raises ConfigurationError: it is that of a virtual host, and there is none
        """
        if not self._options.ssl_verify_vhost:
            return host.name
        if not self._vhost:
            raise ConfigurationError(
                "[oslo_messaging_amqp] ssl_verify_vhost: the transport URL has no"
                " virtual host to compare with the certificate"
            )
        return self._vhost

    def verify(
        self, host: Host, dial: Callable[[], Steps[socket.socket]]
    ) -> Steps[None]:
        """Have a host show its certificate; nothing else is said to it.

        :param dial: connects to it
        :raises OSError: the certificate is not the host's, or cannot be had
        """
        if not wants_tls(self._options):
            return
        name = self.name(host)
        verified = self._verified.setdefault(name, set())
        context = client_context(self._options)
        for _ in range(_ATTEMPTS):
            with (
                (yield from dial()) as plain,
                context.wrap_socket(
                    plain, server_hostname=name, do_handshake_on_connect=False
                ) as shown,
            ):
                forks.close_in_child(shown)
                yield from steps.shake_hands(shown)
                certificate = shown.getpeercert(binary_form=True)
            verified.add(hashlib.sha256(certificate or b"").hexdigest())
            if self._unknown.get(name) in (None, *verified):
                break
        self._unknown.pop(name, None)

    def accepts(self, host: Host, transport: proton.Transport) -> bool | None:
        """Whether the peer has shown a certificate that was verified.

        Nothing may be sent to a peer that is not accepted.

        :returns: None as long as it has shown none
        """
        if not wants_tls(self._options):
            return True
        # finds the one that the transport has
        layer = proton.SSL(transport, None)  # type: ignore[arg-type]
        if layer.protocol_name() is None:
            return None
        shown: Any = layer.get_cert_fingerprint(_SHA256_LENGTH, proton.SSL.SHA256)
        name = self.name(host)
        if shown in self._verified.get(name, ()):
            return True
        self._unknown[name] = shown
        return False


def client_context(options: Any) -> ssl.SSLContext:
    """TLS of a client as the options want it.

    :raises OSError: a file that an option names cannot be used
    """
    context = tls.client(options.ssl_ca_file)
    context.minimum_version = ssl.TLSVersion[options.ssl_version]
    if options.ssl_cert_file:
        key = options.ssl_key_file or options.ssl_cert_file
        context.load_cert_chain(options.ssl_cert_file, key, options.ssl_key_password)
    return context


def offers_nothing(transport: proton.Transport) -> bool:
    """Whether a peer that does not let us in offers no SASL mechanism that we have."""
    return not transport.sasl().mech


def is_distrust(reason: str) -> bool:
    """Whether a connection failed because one end does not trust the other."""
    return any(word in reason for word in ("certificate", "unknown ca"))


#: as hexadecimal text, with the zero byte at its end
_SHA256_LENGTH = 65
#: Connections to look for a certificate that was shown. Behind one name or address
#: there may be several hosts, each with its own.
_ATTEMPTS = 5


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _tls(options: Any, name: str, transport: proton.Transport) -> None:
    domain = _domain(options)
    domain.set_peer_authentication(
        proton.SSLDomain.VERIFY_PEER
        if _is_address(name)
        else proton.SSLDomain.VERIFY_PEER_NAME
    )
    proton.SSL(transport, domain).peer_hostname = name


def _domain(options: Any) -> proton.SSLDomain:
    """What the options say of TLS.

    :raises ConfigurationError: a file that an option names cannot be used
    """
    if not proton.SSL.present():
        raise ConfigurationError(
            "python-qpid-proton was built without TLS: install the OpenSSL headers"
            " (libssl-dev or openssl-devel) and pkg-config, then reinstall it with"
            " pip install --force-reinstall --no-binary :all: python-qpid-proton"
        )
    domain = tls_domain.make(
        proton.SSLDomain.MODE_CLIENT, tls.since(options.ssl_version)
    )
    authorities = options.ssl_ca_file or _system_authorities()
    tls_files.check_authorities("[oslo_messaging_amqp] ssl_ca_file", authorities)
    try:
        domain.set_trusted_ca_db(authorities)
    except proton.SSLException as error:
        raise ConfigurationError(
            f"[oslo_messaging_amqp] ssl_ca_file {authorities}: {error}"
        ) from error
    if options.ssl_cert_file:
        key = options.ssl_key_file or options.ssl_cert_file
        tls_files.check_pair(
            "[oslo_messaging_amqp] ssl_cert_file",
            options.ssl_cert_file,
            "[oslo_messaging_amqp] ssl_key_file",
            options.ssl_key_file,
            options.ssl_key_password or "",
        )
        try:
            domain.set_credentials(
                options.ssl_cert_file, key, options.ssl_key_password or None
            )
        except proton.SSLException as error:
            raise ConfigurationError(
                f"[oslo_messaging_amqp] ssl_cert_file {options.ssl_cert_file},"
                f" ssl_key_file {key}: {error}"
            ) from error
    return domain


def _system_authorities() -> str:
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or paths.openssl_cafile


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
