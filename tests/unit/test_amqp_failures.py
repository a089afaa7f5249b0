# SPDX-License-Identifier: Apache-2.0
"""What operators read when a bus goes, and when it is back."""

from __future__ import annotations

import logging
import os

import pytest

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.amqp import failures
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.outages import Outages

HOST = Host("h", 5672, "nova", "secret")
ROUTER = "the router at amqp://h:5672"


@pytest.mark.parametrize(
    ("seen", "reason", "text"),
    [
        (None, "", f"{ROUTER} closed the connection"),
        (failures.CLOSED, "", f"{ROUTER} closed the connection"),
        # a router that was killed in the middle of a frame, or of the handshakes
        (
            failures.CLOSED,
            "amqp:connection:framing-error: connection aborted",
            f"{ROUTER} closed the connection",
        ),
        (
            failures.CLOSED,
            "amqp:connection:framing-error: Expected SASL protocol header: no protocol"
            " header found (connection aborted)",
            f"{ROUTER} closed the connection",
        ),
        (
            failures.CLOSED,
            "the connection was cut off",
            f"{ROUTER} closed the connection",
        ),
        # in order, with and without words
        (
            None,
            "amqp:connection:forced: not you",
            f"{ROUTER} closed the connection (not you)",
        ),
        (
            None,
            "amqp:connection:forced",
            f"{ROUTER} closed the connection",
        ),
        (
            None,
            "amqp:not-allowed: no such virtual host",
            f"{ROUTER} closed the connection (amqp:not-allowed: no such virtual host)",
        ),
        (
            None,
            "amqp:connection:framing-error: Expected SASL protocol header: 'HTTP/1.1'",
            f"{ROUTER} sent data that is not AMQP 1.0 (Expected SASL protocol header:"
            " 'HTTP/1.1')",
        ),
        (
            None,
            "amqp:resource-limit-exceeded: local-idle-timeout expired",
            f"the connection to {ROUTER} was silent for longer than its idle timeout",
        ),
    ],
)
def test_the_end_of_a_connection_in_words(
    seen: str | None, reason: str, text: str
) -> None:
    assert str(failures.of_ending(HOST, seen, reason)) == text


def test_a_host_that_does_not_answer() -> None:
    error = failures.of_dialling(HOST, ConnectionRefusedError(111, os.strerror(111)))
    assert str(error) == f"{ROUTER} does not answer (connection refused)"
    assert "resolves to no address" in str(failures.of_dialling(HOST, None))


def test_refused_users_and_certificates_are_of_a_kind_of_their_own() -> None:
    refused = failures.of_authentication(HOST, "")
    distrusted = failures.of_ending(
        HOST,
        None,
        "amqp:connection:framing-error: SSL Failure: certificate verify failed",
    )
    for each in (refused, distrusted):
        assert isinstance(each, failures.AuthenticationFailed)
    assert str(refused) == f"{ROUTER} refuses user nova"
    assert "secret" not in str(refused)


def test_one_line_when_a_bus_goes_and_one_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    outages = Outages("sending")
    outages.up("amqp://h:5672")
    for reason in ("it closed the connection", "it does not answer", "nor now"):
        outages.away(reason)
    outages.up("amqp://h:5672")
    outages.away("it goes again")
    assert logs.flush(60)
    told = [
        (record.levelname, record.getMessage().rpartition(" after ")[0] or "-")
        if record.levelname == "INFO"
        else (record.levelname, record.getMessage())
        for record in caplog.records
        if record.levelno > logging.DEBUG
    ]
    assert told == [
        ("INFO", "-"),
        (
            "WARNING",
            "amqp:// (sending): it closed the connection; connecting again",
        ),
        ("INFO", "amqp:// (sending): connected to amqp://h:5672"),
        ("WARNING", "amqp:// (sending): it goes again; connecting again"),
    ]
