# SPDX-License-Identifier: Apache-2.0
"""Peers that have connected and not opened yet: how many may be, and who has to go.

All who reach the port can connect, and say nothing. A peer that means it opens within
milliseconds. So if there are too many, the one goes that has had the most time, of the
host that has the most of them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Peer = TypeVar("Peer")


class Newcomers(Generic[Peer]):
    """Keeps newcomers by their hosts.

    :param most: how many there may be
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._hosts: dict[Peer, str] = {}
        #: in the order in which they came
        self._by_host: dict[str, dict[Peer, None]] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def add(self, peer: Peer, host: str) -> Peer | None:
        """Keep another one.

        :returns: the one that has to go for it
        """
        self._hosts[peer] = host
        self._by_host.setdefault(host, {})[peer] = None
        if len(self) <= self._most:
            return None
        crowd = max(self._by_host.values(), key=lambda peers: len(peers))
        return next(iter(crowd))

    def discard(self, peer: Peer) -> None:
        """A peer has opened, or gone."""
        host = self._hosts.pop(peer, None)
        if host is not None:
            peers = self._by_host[host]
            del peers[peer]
            if not peers:
                del self._by_host[host]
