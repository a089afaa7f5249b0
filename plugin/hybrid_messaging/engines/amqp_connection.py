# SPDX-License-Identifier: Apache-2.0
"""A connection of our own to an engine that speaks AMQP 1.0, for questions to it."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import proton

from hybrid_messaging import tls
from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    Delivery,
    Endpoint,
    Handler,
    Link,
    Outcome,
    Receiver,
    Sender,
)

_CHUNK = 65536


class Requests(Handler):
    """Sends requests to an address, and waits for the answer to each.

    TLS is Python's, below AMQP: it knows at once whose certificate it is, before
    anything is said.

    :param where: host and port
    :param address: what takes the requests
    :param username: with `password`, for an engine that wants SASL PLAIN
    :param ca_file: the certificates to trust, for an engine that wants TLS; '': those
        of the system
    :param name: what the engine's certificate has to be for, if not for the host
    :param timeout: seconds that each step of connecting or any answer may take
    :raises OSError: it cannot be reached or trusted, or does not let us in
    """

    def __init__(
        self,
        where: tuple[str, int],
        address: str,
        username: str | None,
        password: str | None,
        ca_file: str | None,
        timeout: float,
        name: str | None = None,
    ) -> None:
        self._timeout = timeout
        self._attached: set[Link] = set()
        self._asked: str | None = None
        self._answer: proton.Message | None = None
        self._failure: str | None = None

        def setup(transport: proton.Transport, connection: proton.Connection) -> None:
            sasl = transport.sasl()
            # for qpid-proton, which does not know of the TLS below it
            sasl.allow_insecure_mechs = True
            if username:
                connection.user, connection.password = username, password or ""
            else:
                sasl.allowed_mechs("ANONYMOUS")

        self._socket = _connect(where, ca_file, timeout, name)
        self._endpoint = Endpoint(self, f"hybrid-messaging {uuid.uuid4()}", setup=setup)
        try:
            self._endpoint.open()
            self._receiver = self._endpoint.receiver(None)
            self._sender = self._endpoint.sender(address)
            links = {self._receiver, self._sender}
            self._until(lambda: links <= self._attached)
            self._receiver.grant(1)
            #: where the answers arrive
            self.reply_to = self._receiver.pn.remote_source.address or ""
        except BaseException:
            self._let_go()
            raise

    @property
    def remote_properties(self) -> dict[str, Any]:
        """What the engine says of itself."""
        return self._endpoint.remote_properties

    def call(self, request: proton.Message) -> proton.Message:
        """Send a request, and wait for its answer.

        :raises OSError: the connection is lost, or there is no answer in time
        """
        request.reply_to = self.reply_to
        self._asked = str(uuid.uuid4())
        request.correlation_id = self._asked
        self._until(lambda: self._sender.credit > 0)
        self._sender.send(bytes(request.encode()))
        self._until(lambda: self._answer is not None)
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    def close(self) -> None:
        """Say good-bye, and let go of the connection."""
        try:
            self._endpoint.close()
            self._write()
        except OSError:
            pass  # it is over in any case
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._socket.close()
        self._endpoint.abandon()

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            self._write()
            if self._failure is not None:
                raise ConnectionError(self._failure)
            if condition():
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._socket.settimeout(left)
            if data := self._socket.recv(_CHUNK):
                self._endpoint.receive(data)
            else:
                self._endpoint.end_of_input()
                self._fail("it closed the connection")

    def _write(self) -> None:
        self._endpoint.tick(time.monotonic())
        while view := self._endpoint.output():
            self._endpoint.written(self._socket.send(view))

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason

    # -- what the engine does ----------------------------------------------------

    def on_open(self, endpoint: Endpoint) -> None:
        pass

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        self._fail(quoted(condition or "it closed the connection"))

    def on_link_open(self, link: Link) -> None:
        self._attached.add(link)

    def on_link_close(self, link: Link, condition: str) -> None:
        link.close()
        self._fail(quoted(condition or "it closed a link"))

    def on_flow(self, link: Link) -> None:
        pass

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        if delivery is not None:
            receiver.settle(delivery, ACCEPTED)
        receiver.grant(1)
        answer = proton.Message()
        try:
            answer.decode(data)
        except proton.ProtonException as error:
            self._fail(f"its answer is not an AMQP message: {quoted(error)}")
        if answer.correlation_id == self._asked:
            self._answer = answer

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        if not outcome.accepted:
            self._fail(quoted(f"it refuses the request: {outcome}"))

    def on_withdrawn(self, delivery: Delivery) -> None:
        pass


def _connect(
    where: tuple[str, int], ca_file: str | None, timeout: float, name: str | None
) -> socket.socket:
    sock = socket.create_connection(where, timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ca_file is None:
            return sock
        return tls.client(ca_file).wrap_socket(sock, server_hostname=name or where[0])
    except BaseException:
        sock.close()
        raise
