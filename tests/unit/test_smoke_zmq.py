# SPDX-License-Identifier: Apache-2.0
"""What the smoke checks say of the servers of `zmq`."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from hybrid_messaging import urls
from hybrid_messaging.drivers.zmq import matchmaker
from hybrid_messaging.drivers.zmq.matchmaker import Reading, Record
from hybrid_messaging.servers.zmq import Zmq
from hybrid_messaging.smoke.run import Run


@pytest.mark.parametrize(
    ("records", "note"),
    [
        ([("tcp://192.0.2.1:1", "k" * 40)], "; servers of this run: CURVE"),
        ([("tcp://127.0.0.1:1", "")], "; servers of this run: plain text on this host"),
        (
            [("tcp://192.0.2.1:1", ""), ("tcp://192.0.2.1:2", "k" * 40)],
            "; servers of this run: CURVE and plain text",
        ),
        ([], ""),
    ],
)
def test_it_is_said_how_servers_encrypt(
    monkeypatch: pytest.MonkeyPatch,
    records: list[tuple[str, str]],
    note: str,
) -> None:
    run = Run("zmq://r/v", "rabbit://r/")
    own = matchmaker.topic("v", run.exchange, run.topic)
    found = {
        "v/nova/conductor": [Record("c", "tcp://[::1]:3", "p")],
        own: [Record("s", endpoint, "p", key) for endpoint, key in records],
    }
    asked = SimpleNamespace(
        topics=lambda: list(found),
        read=lambda topics: {
            name: Reading("1", tuple(found[name]), "e") for name in topics
        },
    )
    monkeypatch.setattr(Zmq, "_records", lambda _: contextlib.nullcontext(asked))
    told = Zmq(urls.parse(run.rpc_url)).inventory(run)
    assert told.note == note
    assert "nova/conductor: c at tcp://[::1]:3, plain text on this host" in str(told)
