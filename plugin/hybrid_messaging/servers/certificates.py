# SPDX-License-Identifier: Apache-2.0
"""How long certificates are good for: those of servers, and those in files."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import stat
from collections.abc import Iterable, Iterator

from cryptography import x509

from hybrid_messaging import urls
from hybrid_messaging.servers.insight import ServerProblem

#: A file with more is a system's collection, and not the deployment's own authority.
_OWN = 5
#: Bytes that are read of a file: those of several systems' collections.
_LARGEST = 1_000_000
_DAY = datetime.timedelta(days=1)


def of_server(
    name: str, port: int, timeout: float, days: float, client: tuple[str, str]
) -> Iterator[ServerProblem]:
    """What is wrong with the certificate of a server, which nobody verifies here.

    :param client: files with a certificate of ours and its key, or ''
    :raises OSError: it does not show one
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError):
        if client[0]:
            context.load_cert_chain(client[0], client[1] or None, password="")
    with (
        socket.create_connection((name, port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        shown = sock.getpeercert(binary_form=True)
    with contextlib.suppress(ValueError):
        if shown:
            found = x509.load_der_x509_certificate(shown)
            server = urls.Host(name, port)
            yield from _judged(f"the certificate of {server}", found, days)


def of_files(paths: Iterable[str], days: float) -> Iterator[ServerProblem]:
    """What is wrong with certificates in files that a driver is given."""
    for path in paths:
        found: list[x509.Certificate] = []
        with contextlib.suppress(OSError, ValueError):
            found = x509.load_pem_x509_certificates(_content(path))
        for each in found if len(found) <= _OWN else ():
            yield from _judged(f"a certificate in {path}", each, days)


def _content(path: str) -> bytes:
    """What is in a file, up to `_LARGEST` bytes.

    :raises OSError: it cannot be read
    :raises ValueError: it is something that may never end or do something else
    """
    # without waiting for the other end of a FIFO
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{path} is not a regular file")
        return file.read(_LARGEST)


def _judged(what: str, found: x509.Certificate, days: float) -> Iterator[ServerProblem]:
    end = found.not_valid_after_utc
    left = (end - datetime.datetime.now(datetime.timezone.utc)) / _DAY
    if left < 0:
        yield ServerProblem(
            "certificate-ended",
            f"{what} expired at {end:%Y-%m-%d %H:%M} UTC",
            "replace it",
        )
    elif left < days:
        yield ServerProblem(
            "certificate-ends",
            f"{what} expires on {end:%Y-%m-%d}, in {left:.0f} days",
            "renew it before that day, then restart or reload the programs that use it",
        )
