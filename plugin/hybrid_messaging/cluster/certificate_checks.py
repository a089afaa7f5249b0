# SPDX-License-Identifier: Apache-2.0
"""Which certificates servers show, and when these end."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hybrid_messaging.cluster.findings import Access, Finding, error, warning
from hybrid_messaging.cluster.topology import (
    INTERIOR,
    KAFKA,
    RABBITMQ,
    REDIS,
    SENTINEL,
    Host,
)
from hybrid_messaging.engines import certificates

#: The port with TLS from its first byte, by role.
_PORTS = {
    INTERIOR: "router",
    REDIS: "redis",
    SENTINEL: "sentinel",
    RABBITMQ: "rabbitmq",
    KAFKA: "kafka",
}


class Shown(NamedTuple):
    """A certificate that a server shows."""

    role: str
    host: Host


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at the certificates that all servers show; those that are away show none.

    :param each: `map`, or one that does it all at once
    """
    places = [
        Shown(role, host) for role in _PORTS for host in access.topology.having(role)
    ]
    ends = each(lambda place: _end(access, place), places)
    for place, end in zip(places, ends, strict=True):
        if end is None:
            continue
        left = end - datetime.datetime.now(datetime.timezone.utc)
        when = f"{end:%Y-%m-%d %H:%M} UTC"
        cure = "render again, carry it there, and restart the server"
        if left < datetime.timedelta(0):
            yield error(
                place.role, place.host, f"its certificate ended at {when}: {cure}"
            )
        elif left < certificates.MARGIN:
            yield warning(
                place.role, place.host, f"its certificate ends at {when}: {cure}"
            )


def _end(access: Access, place: Shown) -> datetime.datetime | None:
    """When the certificate of a server ends; None if it shows none."""
    # it may have ended, and is only looked at
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    where = (place.host.address, access.topology.ports[_PORTS[place.role]])
    try:
        with (
            socket.create_connection(where, access.timeout) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            shown = encrypted.getpeercert(binary_form=True)
    except OSError:
        return None
    if shown is None:
        return None
    found = certificates.parsed(ssl.DER_cert_to_PEM_cert(shown).encode())
    return None if found is None else found.not_valid_after_utc
