# SPDX-License-Identifier: Apache-2.0
"""Strangers on the bus send messages to a service, which others go on calling.

The service is an application with the driver `amqp`; whoever may connect to its router
may send to it what he likes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.functional.peer import Peer
from tests.functional.routers import Router
from tests.fuzz import amqp_frames as amqp
from tests.fuzz.amqp_frames import EMPTY, NULL, listed, string
from tests.fuzz.application import Application
from tests.fuzz.siege import MEGABYTE, Attack, Besieged, withstand

TOPIC = "besieged"
ADDRESS = f"openstack.org/om/rpc/anycast/openstack/{TOPIC}"
_MILLIONS = amqp.compound(0xD0, 4_000_000, EMPTY * 4_000_000)
_CALL = json.dumps(
    {"request": {"method": "echo", "args": {"value": "?"}}, "context": {}}
)


class Target(NamedTuple):
    """Where strangers send to, and the service that gets it."""

    router: Router
    service: Application


@pytest.fixture(scope="module")
def target(router: Router, directory: Path) -> Iterator[Target]:
    log = directory / "service.log"
    with Application(router.url(), log, topic=TOPIC, calls=False) as service:
        yield Target(router, service)


@pytest.fixture(scope="module")
def neighbour(target: Target, directory: Path) -> Iterator[Application]:
    log = directory / "neighbour.log"
    url = target.router.url()
    with Application(url, log, topic=TOPIC, serves=False) as application:
        yield application


def _sent(*messages: bytes) -> Callable[[Target], None]:
    """Send messages, and wait until the service has dealt with each."""

    def carry_out(target: Target) -> None:
        with Peer(target.router.port) as peer:
            sender = peer.sender(ADDRESS)
            deliveries = []
            for message in messages:
                peer.until(lambda: sender.credit > 0, "credit", amqp.TIMEOUT)
                deliveries.append(sender.send(message, False))
            for delivery in deliveries:
                peer.outcome(delivery, amqp.TIMEOUT)

    return carry_out


def _everywhere(value: bytes) -> list[bytes]:
    """Messages that have a value where another belongs."""
    return [
        *(put(value) for put in amqp.MESSAGES.values()),
        _request(_CALL, reply_to=value),
        _request(_CALL, id=value),
        amqp.VALUE + string(_CALL) + amqp.VALUE + value,
    ]


def _request(body: str, *, id: bytes = b"\xa1\x02id", reply_to: bytes = NULL) -> bytes:
    properties = listed(id, NULL, NULL, NULL, reply_to)
    return amqp.PROPERTIES + properties + amqp.VALUE + string(body)


#: Texts that are no request, or none for this service.
_BODIES = [
    "",
    "null",
    "[]",
    "{",
    '{"request": ',
    "[" * 100_000,
    '{"request": ' * 20_000,
    '{"request": ' + "1" * 100_000 + "}",
    '{"request": 1e999}',
    '{"request": "\\ud800"}',
    '{"oslo.version": "9.0", "oslo.message": "{}"}',
    '{"oslo.version": [], "oslo.message": 1}',
]

ATTACKS = [
    Attack(
        "bodies with millions of members",
        _sent(amqp.VALUE + _MILLIONS, amqp.PROPERTIES + EMPTY + amqp.VALUE + _MILLIONS),
        memory=64 * MEGABYTE,
    ),
    Attack(
        "annotations with millions of members",
        _sent(amqp.ANNOTATIONS + _MILLIONS),
        memory=64 * MEGABYTE,
    ),
    Attack(
        "values where others belong",
        _sent(*(m for value in amqp.VALUES.values() for m in _everywhere(value))),
    ),
    Attack("bodies that are no requests", _sent(*map(_request, _BODIES))),
    Attack("the same over and over", _sent(*[_request("{}")] * 1000)),
    Attack(
        "calls whose answers nobody takes",
        _sent(
            *(
                _request(_CALL, reply_to=string(f"temp.nobody-{number}"))
                for number in range(500)
            )
        ),
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_service_withstands(
    attack: Attack, target: Target, neighbour: Application
) -> None:
    besieged = Besieged(target.service.pid, target.service.log)
    withstand(attack, target, besieged, neighbour)
    assert target.router.running
