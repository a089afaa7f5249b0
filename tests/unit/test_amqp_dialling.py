# SPDX-License-Identifier: Apache-2.0
"""Which host is connected to, where some do not answer."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import selectors
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest
from oslo_messaging.exceptions import ConfigurationError
from tests.unit import silence

from hybrid_messaging.drivers.amqp import dialling
from hybrid_messaging.drivers.amqp.dialling import Dial, Dialling
from hybrid_messaging.drivers.amqp.failures import (
    AuthenticationFailed,
    ConnectionFailed,
)
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.steps import Steps

#: Seconds, far beyond what anything here takes.
FAR = 600.0


def connects(host: Host, dial: Dial) -> Steps[socket.socket]:
    """For hosts that open a connection as soon as they have taken it."""
    return (yield from dial())


def hears(host: Host, dial: Dial) -> Steps[socket.socket]:
    """For hosts that have to say something first."""
    sock = yield from dial()
    try:
        yield sock, selectors.EVENT_READ
        assert sock.recv(1)
    except BaseException:
        sock.close()
        raise
    return sock


def round_of(
    *hosts: Host,
    timeout: float = FAR,
    open: Callable[[Host, Dial], Steps[socket.socket]] = connects,
) -> Dialling[socket.socket]:
    return Dialling(hosts, timeout, open, lambda: False)


def at(listening: socket.socket) -> Host:
    return Host("127.0.0.1", listening.getsockname()[1], None, None)


@pytest.fixture
def there() -> Iterator[Host]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield at(listening)


@pytest.fixture
def away() -> Host:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return at(listening)


@pytest.fixture
def vanished() -> Iterator[Host]:
    with silence.vanished() as port:
        yield Host("127.0.0.1", port, None, None)


def dial(round: Dialling[socket.socket]) -> Host:
    host, sock = round.dial()
    with sock:
        assert sock.getpeername()[1] == host.port
    return host


def test_the_first_host_that_answers_is_taken(there: Host, away: Host) -> None:
    round = round_of(away, there, away)
    assert dial(round) == there
    assert not round.over
    with pytest.raises(ConnectionFailed, match="does not answer") as caught:
        round.dial()
    assert str(away.port) in str(caught.value)
    assert round.over


def test_a_host_that_has_vanished_holds_nobody_up(there: Host, vanished: Host) -> None:
    began = time.monotonic()
    assert dial(round_of(vanished, vanished, there)) == there
    assert time.monotonic() - began < FAR / 2


def test_who_was_slower_is_tried_again_where_the_first_is_of_no_use(
    there: Host, vanished: Host
) -> None:
    round = round_of(vanished, there, timeout=1.0)
    assert dial(round) == there
    with pytest.raises(ConnectionFailed, match="timed out") as caught:
        round.dial()
    assert str(vanished.port) in str(caught.value)


def test_hosts_that_show_no_certificate_to_trust_are_passed_over(there: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stranger = at(listening)

        def open(host: Host, dial: Dial) -> Steps[socket.socket]:
            sock = yield from dial()
            assert sock.getpeername()[1] == host.port
            if host == stranger:
                sock.close()
                error = ssl.SSLCertVerificationError("certificate verify failed")
                error.verify_message = "self-signed certificate"
                raise error
            return sock

        assert dial(round_of(stranger, there, open=open)) == there
        with pytest.raises(AuthenticationFailed, match="not trusted"):
            round_of(stranger, open=open).dial()


class Talking:
    """A host that says something on each connection, at once or when it is told to."""

    def __init__(self, hangs: bool = False) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.host = at(self._listening)
        self.goes_on = threading.Event()
        if not hangs:
            self.goes_on.set()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        assert self.goes_on.wait(FAR)
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                with sock:
                    sock.sendall(b"!")

    def __enter__(self) -> Talking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.goes_on.set()
        self._thread.join(60)


def test_a_host_that_takes_connections_and_hangs_holds_nobody_up() -> None:
    began = time.monotonic()
    with Talking(hangs=True) as hanging, Talking() as good:
        assert dial(round_of(hanging.host, good.host, open=hears)) == good.host
    assert time.monotonic() - began < FAR / 2


def test_a_host_that_takes_its_time_is_still_waited_for() -> None:
    with Talking(hangs=True) as first, Talking(hangs=True) as second:
        begun: list[Host] = []

        def open(host: Host, dial: Dial) -> Steps[socket.socket]:
            begun.append(host)
            if host == second.host:
                first.goes_on.set()
            return (yield from hears(host, dial))

        assert dial(round_of(first.host, second.host, open=open)) == first.host
        assert begun == [first.host, second.host]


def test_a_host_that_is_busy_opening_has_a_head_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bus whose clients all return at once takes its time with each."""
    monkeypatch.setattr(dialling, "OPENING", FAR)
    with Talking(hangs=True) as busy, Talking() as other:
        threading.Timer(4 * dialling.DELAY, busy.goes_on.set).start()
        assert dial(round_of(busy.host, other.host, open=hears)) == busy.host


def test_nobody_connects_any_more_once_that_is_given_up() -> None:
    with Talking(hangs=True) as hanging:
        begun = threading.Event()

        def open(host: Host, dial: Dial) -> Steps[socket.socket]:
            begun.set()
            return hears(host, dial)

        with pytest.raises(ConnectionFailed):
            Dialling([hanging.host], FAR, open, begun.is_set).dial()


def test_what_is_wrong_with_an_option_is_said(there: Host) -> None:
    def open(host: Host, dial: Dial) -> Steps[socket.socket]:
        sock = yield from dial()
        sock.close()
        raise ConfigurationError("an option is wrong")

    with pytest.raises(ConfigurationError):
        round_of(there, open=open).dial()


def test_names_are_looked_up_when_it_is_their_turn(
    there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    real = socket.getaddrinfo

    def look_up(name: str, *rest: object, **options: object) -> list:
        looked_up.append(name)
        if name != there.name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    unknown = Host("unknown.invalid", 5672, None, None)
    assert dial(round_of(there, unknown)) == there
    assert looked_up == [there.name]
    with pytest.raises(ConnectionFailed, match=r"unknown.*cannot be resolved"):
        round_of(unknown).dial()


def test_without_descriptors_it_says_so(
    there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(dialling.socket, "socket", scarce)
    with pytest.raises(ConnectionFailed, match="too many open files"):
        round_of(there).dial()


def test_nothing_is_left_open(there: Host, away: Host, vanished: Host) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        dial(round_of(vanished, away, there))
        gc.collect()
    assert [each for each in caught if each.category is ResourceWarning] == []


def test_a_round_without_descriptors_is_over(
    there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner pauses before the next one."""

    def selector() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(selectors, "DefaultSelector", selector)
    round = round_of(there, there)
    with pytest.raises(OSError, match="Too many open files"):
        round.dial()
    assert round.over
