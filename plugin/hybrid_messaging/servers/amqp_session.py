# SPDX-License-Identifier: Apache-2.0
"""Open one session with an AMQP 1.0 peer, as the driver would, and say how it went."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
import uuid
from collections.abc import Callable

import proton
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging import urls
from hybrid_messaging.drivers.amqp import security, steps
from hybrid_messaging.drivers.amqp.addressing import ADVICE, objection
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.steps import Steps
from hybrid_messaging.protocol.endpoint import Endpoint, Excessive, Handler
from hybrid_messaging.servers.transport import (
    CLIENT,
    ConnectError,
    Transport,
    connected,
    protocol_error,
    tls_failed,
    unreachable,
)

_CHUNK = 65536


def greet(amqp: Transport, host: urls.Host, timeout: float) -> str:
    """Connect with TLS, SASL and virtual host as the driver does; open a session.

    :param amqp: the transport, with the options of its driver
    :param host: one of its servers
    :param timeout: seconds for each step
    :returns: what the peer says it is, '' if it does not
    :raises ConnectError: it did not work
    """
    name, port = amqp.address(host)
    server, vhost = amqp.shown(host), amqp.url.vhost
    known = Host(name, port, host.username, host.password)
    terms = security.Security(amqp.options, vhost)

    def dial() -> Steps[socket.socket]:
        sock = connected(name, port, timeout)
        sock.setblocking(False)
        yield from ()
        return sock

    try:
        endpoint = Endpoint(
            _Deaf(),  # type: ignore[abstract]
            f"{CLIENT} {uuid.uuid4()}",
            setup=functools.partial(terms.setup, known),
        )
        steps.finish(terms.verify(known, dial), timeout)
    except ConfigurationError as error:
        raise ConnectError(
            "tls-failed", str(error), "correct the option that it names"
        ) from error
    except OSError as error:
        raise tls_failed(server, error.strerror or error) from error
    lost = ""
    with connected(name, port, timeout) as sock:
        try:
            _open_session(
                endpoint,
                sock,
                time.monotonic() + timeout,
                lambda: terms.accepts(known, endpoint.transport) is not False,
            )
        except TimeoutError as error:
            raise unreachable(server, "no answer in time") from error
        except OSError as error:
            lost = error.strerror or str(error)
    if lost or endpoint.closed:
        reason = endpoint.failure or lost or "it closed the connection"
        raise _explained(endpoint, server, host.username, vhost, reason)
    try:
        product = endpoint.remote_product
    except Excessive as error:
        raise protocol_error(server, "AMQP 1.0", error) from error
    why = objection(amqp.options, product)
    if why is not None:
        raise ConnectError("unfit-server", f"{server} cannot be used: {why}", ADVICE)
    return product or ""


def _open_session(
    endpoint: Endpoint,
    sock: socket.socket,
    deadline: float,
    accepts: Callable[[], bool],
) -> None:
    """Exchange bytes until the peer has opened a session, or it is over.

    A broker that lacks the virtual host opens the connection only to close it,
    so an open connection proves nothing.

    :param accepts: whether anything may be sent to the peer
    :raises OSError: the connection is lost, or the peer is not accepted
    """
    endpoint.open()
    session = endpoint.session
    while not session.state & proton.Endpoint.REMOTE_ACTIVE:
        while view := endpoint.output():
            endpoint.written(sock.send(view))
        # what is wrong on our side, as with SASL mechanisms, shows only here
        endpoint.tick(time.monotonic())
        if endpoint.closed:
            return
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        data = sock.recv(_CHUNK)
        if data:
            endpoint.receive(data)
        else:
            endpoint.end_of_input()
        if not accepts():
            raise OSError("it presents different certificates on different connections")
    endpoint.close()
    with contextlib.suppress(OSError):
        sock.send(endpoint.output())


def _explained(
    endpoint: Endpoint, server: str, user: str | None, vhost: str | None, reason: str
) -> ConnectError:
    if endpoint.authentication_failed and security.offers_nothing(endpoint.transport):
        return ConnectError(
            "mechanism-missing",
            f"{server} refuses user {user or '(anonymous)'}: it offers no usable SASL"
            " mechanism",
            "if it accepts passwords only over TLS, set the TLS options of the driver;"
            " otherwise correct sasl_mechanisms, or the user in the URL",
        )
    if endpoint.authentication_failed:
        return ConnectError(
            "wrong-credentials",
            f"{server} refuses user {user or '(anonymous)'}: {reason}",
            "correct user name and password in the URL",
        )
    if "amqp:not-found" in reason:
        return ConnectError(
            "vhost-missing",
            f"{server} has no virtual host {vhost!r}: {reason}",
            "create the virtual host, or correct the URL",
        )
    if "SSL" in reason or "certificate" in reason:
        return tls_failed(server, reason)
    return protocol_error(server, "AMQP 1.0", reason)


class _Deaf(Handler):
    """Takes no interest in what the peer does; the endpoint remembers enough."""
