# SPDX-License-Identifier: Apache-2.0
"""On which terms a listener lets peers in: TLS and SASL, set up in qpid-proton."""

from __future__ import annotations

import proton

from hybrid_messaging.protocol import tls_domain
from hybrid_messaging.router.config import ConfigError, Listener, RouterConfig


class Terms:
    """What a listener asks of its peers.

    :raises ConfigError: a certificate can't be used, or qpid-proton was built
        without the library that the listener needs
    """

    def __init__(self, config: RouterConfig, listener: Listener) -> None:
        self.listener = listener
        self._config = config
        self._domain = None if listener.ssl_profile is None else _domain(listener)
        if listener.sasl_mechanisms and not proton.SASL.extended():
            unknown = set(listener.sasl_mechanisms.split()) - {"ANONYMOUS", "EXTERNAL"}
            if unknown:
                raise ConfigError(
                    f"SASL {', '.join(sorted(unknown))} needs python-qpid-proton built "
                    "with Cyrus SASL (libsasl2-dev)"
                )

    def apply(self, transport: proton.Transport) -> None:
        """Set up a new connection's transport."""
        if self._domain is not None:
            # qpid-proton recognises plain connections by their first bytes
            proton.SSL(transport, self._domain)
            transport.require_encryption(self.listener.require_ssl)
        sasl = transport.sasl()
        if self._config.sasl_config_dir:
            sasl.config_path(self._config.sasl_config_dir)
        sasl.config_name(self._config.sasl_config_name)
        if self.listener.sasl_mechanisms:
            sasl.allowed_mechs(self.listener.sasl_mechanisms)
        # PLAIN without TLS is for the operator to allow, by naming it. Where TLS is
        # required, no password is asked for without it, nor judged.
        sasl.allow_insecure_mechs = not self.listener.require_ssl
        transport.require_auth(self.listener.authenticate_peer)

    def mechanism(self, transport: proton.Transport) -> str | None:
        """The SASL mechanism by which a peer came in."""
        return transport.sasl().mech

    def protocol(self, transport: proton.Transport) -> str | None:
        """The TLS version that a peer speaks."""
        tls = self._tls(transport)
        return None if tls is None else tls.protocol_name()

    def cipher(self, transport: proton.Transport) -> str | None:
        """The TLS cipher that a peer speaks."""
        tls = self._tls(transport)
        return None if tls is None else tls.cipher_name()

    def _tls(self, transport: proton.Transport) -> proton.SSL | None:
        return None if self._domain is None else proton.SSL(transport, self._domain)


def _domain(listener: Listener) -> proton.SSLDomain:
    profile = listener.ssl_profile
    assert profile is not None
    if not proton.SSL.present():
        raise ConfigError(
            "TLS needs python-qpid-proton built with OpenSSL (libssl-dev)"
        )
    try:
        domain = tls_domain.make(proton.SSLDomain.MODE_SERVER, profile.protocols)
        domain.set_credentials(profile.cert_file, profile.private_key_file, None)
        if profile.ca_cert_file:
            domain.set_trusted_ca_db(profile.ca_cert_file)
            if listener.authenticate_peer:
                domain.set_peer_authentication(
                    proton.SSLDomain.VERIFY_PEER, profile.ca_cert_file
                )
    except proton.SSLException as error:
        raise ConfigError(
            f"sslProfile '{profile.name}': a file cannot be used: {error}"
        ) from error
    if not listener.require_ssl:
        domain.allow_unsecured_client()
    return domain
