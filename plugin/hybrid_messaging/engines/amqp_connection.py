# SPDX-License-Identifier: Apache-2.0
"""A connection of our own to an engine that speaks AMQP 1.0."""

from __future__ import annotations

import proton
from proton.utils import BlockingConnection


def connect(
    where: str,
    username: str | None,
    password: str | None,
    ca_file: str | None,
    timeout: float,
) -> BlockingConnection:
    """Connect to an engine.

    :param where: ``host:port``
    :param username: with `password`, for an engine that wants SASL PLAIN
    :param ca_file: the certificate to trust, for an engine that wants TLS
    :param timeout: seconds that connecting or any answer may take
    :raises proton.ProtonException: there is none, or it does not let us in
    :raises OSError: it cannot be reached
    """
    domain = None
    if ca_file:
        domain = proton.SSLDomain(proton.SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(ca_file)
        # a private authority has nobody else's certificates, and qpid-proton does
        # not compare addresses with them
        domain.set_peer_authentication(proton.SSLDomain.VERIFY_PEER)
    return BlockingConnection(
        f"{'amqp' if domain is None else 'amqps'}://{where}",
        timeout=timeout,
        ssl_domain=domain,
        user=username,
        password=password,
    )
