# SPDX-License-Identifier: Apache-2.0
"""Strangers attack the embedded router, while an application goes on using it."""

from __future__ import annotations

import contextlib
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.functional.peer import Peer
from tests.functional.routers import Router
from tests.fuzz import amqp_frames as amqp
from tests.fuzz.amqp_frames import (
    EMPTY,
    NULL,
    TRUE,
    attached,
    begun,
    described,
    listed,
    opened,
    performative,
    relay,
    said,
    string,
    uint,
)
from tests.fuzz.application import Application
from tests.fuzz.siege import MEGABYTE, Attack, Besieged, withstand

_MILLIONS = amqp.compound(0xD0, 8_000_000, EMPTY * 8_000_000)
_UP = opened() + begun()


@pytest.fixture(scope="module")
def neighbour(router: Router, directory: Path) -> Iterator[Application]:
    with Application(router.url(), directory / "neighbour.log") as application:
        yield application


# -- messages ------------------------------------------------------------------


def _relayed(message: bytes) -> Callable[[Router], None]:
    def carry_out(router: Router) -> None:
        said(router.port, _UP + relay(), *amqp.in_parts(message))

    return carry_out


def _message_without_end(router: Router) -> None:
    """More than the router keeps of one, as fast as it takes it."""
    with Peer(router.port) as peer:
        sender = peer.sender(None)
        sender.send(b"x" * 140 * MEGABYTE, False)
        peer.until(lambda: sender in peer.detached, "the router has enough of it", 60)


def _aborted_messages(router: Router) -> None:
    def message(number: int) -> bytes:
        fields = (amqp.ZERO, uint(number), b"\xa0\x01t", amqp.ZERO, amqp.FALSE)
        aborts = performative(amqp.TRANSFER, *fields, amqp.FALSE, *[NULL] * 3, TRUE)
        part = b"x" * amqp.LARGEST_PART
        return amqp.transferred(part, number, more=True) + aborts

    said(router.port, _UP + relay(), *map(message, range(200)))


# -- values where others belong ------------------------------------------------


def _everywhere(value: bytes) -> Callable[[Router], None]:
    def carry_out(router: Router) -> None:
        for talk in amqp.talks(value):
            said(router.port, *talk)

    return carry_out


def _again_and_again(router: Router) -> None:
    """What is short to send and long to decode."""
    for name in ("array of 2**31 nulls", "array of 2**31 empty lists"):
        for _ in range(50):
            said(router.port, opened(properties=amqp.VALUES[name]))


# -- connections ---------------------------------------------------------------


@contextlib.contextmanager
def _crowd(router: Router, size: int, *words: bytes) -> Iterator[list[socket.socket]]:
    """So many connections, each of which says one of some words."""
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(amqp.connected(router.port)) for _ in range(size)]
        for number, each in enumerate(crowd):
            each.sendall(words[number % len(words)])
        yield crowd


def _unfinished_handshakes(router: Router) -> None:
    with _crowd(router, 400, *(amqp.SASL[:size] for size in range(8))) as crowd:
        for _ in range(5):
            for each in crowd:
                with contextlib.suppress(OSError):
                    each.sendall(b"\0")


def _half_closed(router: Router) -> None:
    with _crowd(router, 200, _UP) as crowd:
        for each in crowd:
            each.shutdown(socket.SHUT_WR)
        for each in crowd:
            with contextlib.suppress(ConnectionError):
                while each.recv(65536):
                    pass


def _garbage(router: Router) -> None:
    chance = random.Random(1)
    for _ in range(1000):
        said(router.port, chance.randbytes(chance.randrange(1, 40)))


def _hang_up(router: Router) -> None:
    """Go in the middle of what one begins."""
    words = [
        amqp.SASL,
        _UP,
        _UP + attached(string("l"), 0),
        _UP + amqp.frame(b"\x00\x53\x12\xd0\xff\xff\xff\xff"),
        _UP + relay() + amqp.transferred(b"x" * 20_000, more=True),
    ]
    for number in range(500):
        said(router.port, words[number % len(words)])


def _long_names(router: Router) -> None:
    name = string("n" * 30_000)
    for _ in range(200):
        said(router.port, opened(container=name) + begun())
    refused = [
        attached(
            string(f"link {number}"),
            number,
            receives=True,
            source=described(amqp.SOURCE, listed(NULL)),
        )
        for number in range(400)
    ]
    said(router.port, opened(container=name) + begun(), *refused)


def _empty_frames(router: Router) -> None:
    said(router.port, _UP, amqp.frame(b"") * 200_000)


def _silent_crowd(router: Router) -> None:
    """Many more than may be there, and one who means it."""
    with contextlib.ExitStack() as crowd:
        for _ in range(1500):
            crowd.enter_context(
                socket.create_connection(("127.0.0.1", router.port), 20)
            )
        with Peer(router.port) as peer:
            peer.round_trip()


# -- sessions and links --------------------------------------------------------


def _many_sessions(router: Router) -> None:
    said(router.port, opened() + b"".join(map(begun, range(1024))))


def _many_links(router: Router) -> None:
    links = (
        attached(
            string(f"link {number}"),
            number,
            receives=bool(number % 2),
            source=described(amqp.SOURCE, listed(string(f"address {number}"))),
            target=described(amqp.TARGET, listed(string(f"address {number}"))),
        )
        for number in range(4000)
    )
    said(router.port, _UP, *links)


def _long_names_of_links(router: Router) -> None:
    long = "x" * 10_000
    names = described(amqp.TARGET, listed(string(long)))
    links = (
        attached(string(f"{number} {long}"), number, target=names)
        for number in range(4000)
    )
    said(router.port, _UP, *links)


def _links_to_and_fro(router: Router) -> None:
    detach = performative(amqp.DETACH, uint(0), TRUE)
    said(
        router.port,
        _UP,
        *(attached(string(f"link {number}"), 0) + detach for number in range(4000)),
    )


def _sessions_to_and_fro(router: Router) -> None:
    said(router.port, _UP, (begun(5) + performative(amqp.END, channel=5)) * 4000)


# -- management ----------------------------------------------------------------


def _question(operation: str, entity: str, reply_to: str) -> bytes:
    return (
        amqp.PROPERTIES
        + listed(*[NULL] * 4, string(reply_to))
        + amqp.APPLICATION_PROPERTIES
        + amqp.mapped(
            *map(string, ("operation", operation)),
            *map(string, ("entityType", entity)),
            *map(string, ("type", entity)),
            *map(string, ("identity", "1")),
        )
        + amqp.VALUE
        + amqp.mapped(string("attributeNames"), listed())
    )


def _answer(peer: Peer, operation: str, entity: str) -> bytes:
    """Ask the management once."""
    replies = peer.receiver(None, credit=1)
    question = _question(operation, entity, replies.pn.remote_source.address)
    peer.sender("$management").send(question, True)
    peer.until(lambda: peer.messages[replies], "an answer")
    return peer.messages[replies][0][1]


def _reply_addresses(peer: Peer) -> list[str]:
    """Where others await replies, as the management tells."""
    answer = _answer(peer, "QUERY", "router.address")
    found = re.findall(rb"Ltemp\.[\w-]+", answer)
    return sorted({name[1:].decode() for name in found})


def _questions(router: Router) -> None:
    """Many questions with long answers, for which there is no credit."""
    with Peer(router.port) as peer:
        replies = peer.receiver(None)
        for number in range(500):
            peer.endpoint.receiver(f"address {number}")
        peer.round_trip()
        asking = peer.sender("$management")
        address = replies.pn.remote_source.address
        question = _question("QUERY", "router.link", address)
        for _ in range(250):
            peer.until(lambda: asking.credit > 0, "credit for questions")
            asking.send(question, True)
        peer.round_trip()


def _forbidden_operations(router: Router) -> None:
    with Peer(router.port) as peer:
        for operation in ("CREATE", "UPDATE", "DELETE"):
            assert b"is not implemented" in _answer(peer, operation, "connection")


def _names_for_others_to_read(router: Router) -> None:
    """What management tells of strangers is read by others."""
    with contextlib.ExitStack() as stack:
        for value in amqp.VALUES.values():
            stranger = stack.enter_context(amqp.connected(router.port))
            stranger.sendall(
                opened(properties=amqp.mapped(amqp.symbol("product"), value)) + begun()
            )
            stranger.sendall(attached(string("\0\x1b[2J"), 0, receives=True))
        with router.management() as management:
            assert management.connections() and management.addresses()


def _forged_replies(router: Router) -> None:
    """Answer the calls of others, whose reply addresses management tells."""
    forged = string('{"response": "forged"}')
    with Peer(router.port) as peer:
        sender = peer.sender(None)
        for address in _reply_addresses(peer):
            for number in range(200):
                message = (
                    amqp.PROPERTIES
                    + listed(NULL, NULL, string(address), NULL, NULL, uint(number))
                    + amqp.VALUE
                    + forged
                )
                peer.until(lambda: sender.credit > 0, "credit")
                sender.send(message, True)
        peer.round_trip()


ATTACKS = [
    Attack(
        "properties with millions of members",
        _relayed(amqp.PROPERTIES + _MILLIONS),
        memory=64 * MEGABYTE,
    ),
    Attack(
        "annotations with millions of members",
        _relayed(amqp.ANNOTATIONS + _MILLIONS),
        memory=64 * MEGABYTE,
    ),
    Attack("a message without end", _message_without_end, memory=192 * MEGABYTE),
    Attack("aborted messages", _aborted_messages),
    *(Attack(name, _everywhere(value)) for name, value in amqp.VALUES.items()),
    Attack("arrays that lie, again and again", _again_and_again),
    Attack("unfinished handshakes", _unfinished_handshakes, memory=96 * MEGABYTE),
    Attack("a silent crowd", _silent_crowd),
    Attack("half-closed connections", _half_closed, memory=96 * MEGABYTE),
    Attack("garbage", _garbage),
    Attack("hanging up", _hang_up),
    Attack("long names", _long_names),
    Attack("empty frames", _empty_frames),
    Attack("many sessions", _many_sessions),
    Attack("many links", _many_links),
    Attack("long names of links", _long_names_of_links),
    Attack("links to and fro", _links_to_and_fro),
    Attack("sessions to and fro", _sessions_to_and_fro),
    Attack("questions without end", _questions),
    Attack("forbidden operations", _forbidden_operations),
    Attack("names for others to read", _names_for_others_to_read),
    Attack("forged replies", _forged_replies),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_router_withstands(
    attack: Attack, router: Router, directory: Path, neighbour: Application
) -> None:
    besieged = Besieged(router.pid, directory / "router.log")
    withstand(attack, router, besieged, neighbour)
    assert router.running
