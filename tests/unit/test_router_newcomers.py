# SPDX-License-Identifier: Apache-2.0
"""Peers that have connected and not opened: who has to go."""

from __future__ import annotations

from hybrid_messaging.router.newcomers import Newcomers


def test_of_too_many_the_first_of_the_host_with_the_most_goes() -> None:
    peers: Newcomers[int] = Newcomers(4)
    hosts = ["a", "b", "b", "b"]
    assert [peers.add(number, host) for number, host in enumerate(hosts)] == [None] * 4
    assert peers.add(4, "a") == 1
    peers.discard(1)
    assert peers.add(5, "a") == 0
    peers.discard(0)
    peers.discard(0)
    assert len(peers) == 4


def test_who_has_opened_does_not_count() -> None:
    peers: Newcomers[int] = Newcomers(2)
    for number in range(100):
        assert peers.add(number, f"host {number}") is None
        peers.discard(number)
    assert len(peers) == 0
