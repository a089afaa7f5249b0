# SPDX-License-Identifier: Apache-2.0
"""Which host is connected to, where some do not answer."""

from __future__ import annotations

import errno
import gc
import os
import selectors
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator

import pytest
from tests.unit import silence

from hybrid_messaging.drivers.amqp import dialling
from hybrid_messaging.drivers.amqp.dialling import Dialling
from hybrid_messaging.drivers.amqp.failures import (
    AuthenticationFailed,
    ConnectionFailed,
)
from hybrid_messaging.drivers.amqp.hosts import Host

#: Seconds, far beyond what anything here takes.
FAR = 600.0

Dial = Callable[[], socket.socket]


def trusts(host: Host, dial: Dial) -> None:
    pass


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


def dial(round: Dialling) -> Host:
    host, sock = round.dial()
    with sock:
        assert sock.getpeername()[1] == host.port
    return host


def test_the_first_host_that_answers_is_taken(there: Host, away: Host) -> None:
    round = Dialling([away, there, away], FAR, trusts)
    assert dial(round) == there
    assert not round.over
    with pytest.raises(ConnectionFailed, match="does not answer") as caught:
        round.dial()
    assert str(away.port) in str(caught.value)
    assert round.over


def test_a_host_that_has_vanished_holds_nobody_up(there: Host, vanished: Host) -> None:
    began = time.monotonic()
    assert dial(Dialling([vanished, vanished, there], FAR, trusts)) == there
    assert time.monotonic() - began < FAR / 2


def test_who_was_slower_is_tried_again_where_the_first_is_of_no_use(
    there: Host, vanished: Host
) -> None:
    round = Dialling([vanished, there], 1.0, trusts)
    assert dial(round) == there
    with pytest.raises(ConnectionFailed, match="timed out") as caught:
        round.dial()
    assert str(vanished.port) in str(caught.value)


def test_hosts_that_show_no_certificate_to_trust_are_passed_over(there: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stranger = at(listening)
        dials: list[Host] = []

        def verify(host: Host, dial: Dial) -> None:
            with dial() as first:
                assert first.getpeername()[1] == host.port
            dials.append(host)
            if host == stranger:
                error = ssl.SSLCertVerificationError("certificate verify failed")
                error.verify_message = "self-signed certificate"
                raise error

        assert dial(Dialling([stranger, there], FAR, verify)) == there
        assert dials == [stranger, there]
        with pytest.raises(AuthenticationFailed, match="not trusted"):
            Dialling([stranger], FAR, verify).dial()


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
    assert dial(Dialling([there, unknown], FAR, trusts)) == there
    assert looked_up == [there.name]
    with pytest.raises(ConnectionFailed, match=r"unknown.*cannot be resolved"):
        Dialling([unknown], FAR, trusts).dial()


def test_without_descriptors_it_says_so(
    there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(dialling.socket, "socket", scarce)
    with pytest.raises(ConnectionFailed, match="too many open files"):
        Dialling([there], FAR, trusts).dial()


def test_nothing_is_left_open(there: Host, away: Host, vanished: Host) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        dial(Dialling([vanished, away, there], FAR, trusts))
        gc.collect()
    assert [each for each in caught if each.category is ResourceWarning] == []


def test_a_round_without_descriptors_is_over(
    there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner pauses before the next one."""

    def selector() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(selectors, "DefaultSelector", selector)
    dialling = Dialling([there, there], FAR, trusts)
    with pytest.raises(OSError, match="Too many open files"):
        dialling.dial()
    assert dialling.over
