# SPDX-License-Identifier: Apache-2.0
"""Which certificates servers show, and when these end.

The router of an edge listens for its own host alone: of its certificate, the rendered
copy is looked at.
"""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hybrid_messaging.cluster import rendering
from hybrid_messaging.cluster.findings import Access, Finding, error, warning
from hybrid_messaging.cluster.topology import (
    EDGE,
    INTERIOR,
    KAFKA,
    RABBITMQ,
    REDIS,
    SENTINEL,
    Host,
)
from hybrid_messaging.engines import certificates

#: The ports with TLS from their first byte, by role.
_PORTS = {
    INTERIOR: ("router", "router-edge", "router-links"),
    REDIS: ("redis",),
    SENTINEL: ("sentinel",),
    RABBITMQ: ("rabbitmq", "rabbitmq-management", "rabbitmq-distribution"),
    KAFKA: ("kafka", "kafka-controller"),
}


class Shown(NamedTuple):
    """A certificate that a server shows."""

    role: str
    host: Host
    #: what the port is for
    purpose: str


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at the certificates that all servers show; those that are away show none.

    :param each: `map`, or one that does it all at once
    """
    topology = access.topology
    places = [
        Shown(role, host, purpose)
        for role, purposes in _PORTS.items()
        for host in topology.having(role)
        for purpose in purposes
    ]
    # by role and host, the certificates that end at a time
    found: dict[tuple[str, Host, datetime.datetime], list[str]] = {}
    for place, end in zip(
        places, each(lambda place: _end(access, place), places), strict=True
    ):
        if end is not None:
            found.setdefault((place.role, place.host, end), []).append(place.purpose)
    for edge in topology.having(EDGE):
        if (end := _rendered(access, edge)) is not None:
            found[EDGE, edge, end] = ["router"]
    for (role, host, end), purposes in found.items():
        yield from _judge(role, host, end, ", ".join(purposes))


def _judge(
    role: str, host: Host, end: datetime.datetime, where: str
) -> Iterator[Finding]:
    left = end - datetime.datetime.now(datetime.timezone.utc)
    when = f"{end:%Y-%m-%d %H:%M} UTC"
    cure = "render again, copy the result there, and restart the server"
    if left < datetime.timedelta(0):
        yield error(role, host, f"the certificate of {where} ended at {when}: {cure}")
    elif left < certificates.MARGIN:
        yield warning(role, host, f"the certificate of {where} ends at {when}: {cure}")


def _rendered(access: Access, host: Host) -> datetime.datetime | None:
    """When the certificate ends that was rendered for a host; None if there is none."""
    try:
        pem = (access.directory / rendering.certificate(host)).read_bytes()
    except OSError:
        return None
    return _ends(pem)


def _end(access: Access, place: Shown) -> datetime.datetime | None:
    """When the certificate of a server ends; None if it shows none."""
    # it may have ended, and is only looked at
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    where = (place.host.address, access.topology.ports[place.purpose])
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
    return _ends(ssl.DER_cert_to_PEM_cert(shown).encode())


def _ends(pem: bytes) -> datetime.datetime | None:
    found = certificates.parsed(pem)
    return None if found is None else found.not_valid_after_utc
