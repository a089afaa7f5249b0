# SPDX-License-Identifier: Apache-2.0
"""How clients find proxies, and what they send them.

A proxy is in the matchmaker as the server of a separate topic. Its clients name
the listener that a request is for just as they would without it; a fanout they send
to the proxy itself, which passes it on.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable

from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq.directory import Directory, Listing
from hybrid_messaging.drivers.zmq.matchmaker import MatchmakerAway

#: The topic of proxies; those of others have slashes.
PROXIES = "proxy"
#: Proxies that are used: each server is there once for each of them.
MOST_PROXIES = 100
#: What topics begin with when a proxy is to spread a message.
SPREAD = "*/"


def everybody(topic: str) -> str:
    """The target of a message that a proxy passes on to all servers of a topic."""
    return SPREAD + topic


class ProxiedDirectory:
    """A directory that has, for each server, the endpoints of the proxies.

    :param directory: the true one
    """

    proxied = True

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        #: what was put together last, with which proxies, by what is known of servers
        self._combined: weakref.WeakKeyDictionary[Listing, tuple[Listing, Listing]] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def failure(self) -> MatchmakerAway | None:
        """See `Directory.failure`."""
        return self._directory.failure

    @property
    def blind(self) -> bool:
        """See `Directory.blind`."""
        return self._directory.blind

    def follow(self, follower: Callable[[], None]) -> None:
        """See `Directory.follow`."""
        self._directory.follow(follower)

    def unfollow(self, follower: Callable[[], None]) -> None:
        """See `Directory.unfollow`."""
        self._directory.unfollow(follower)

    def away(self, connected: list[bool]) -> bool:
        """See `Directory.away`."""
        proxies = self._directory.known(PROXIES)
        if proxies is None or not proxies.records:
            return True
        return bool(connected) and not any(connected)

    def known(self, topic: str) -> Listing | None:
        """See `Directory.known`: every server is there once for each proxy."""
        proxies = self._directory.known(PROXIES)
        if topic.startswith(SPREAD) or proxies is None:
            return proxies
        servers = self._directory.known(topic)
        if servers is None:
            return None
        proxies.used = servers.used = time.monotonic()
        found = self._combined.get(servers)
        if found is None or found[0] is not proxies:
            records = tuple(
                server._replace(endpoint=proxy.endpoint, key=proxy.key)
                for server in servers.records
                for proxy in proxies.records[:MOST_PROXIES]
            )
            combined = servers.through(records, min(proxies.since, servers.since))
            found = self._combined[servers] = proxies, combined
        return found[1]

    def ask(self, topic: str, waiter: Waiter) -> None:
        """See `Directory.ask`."""
        if topic.startswith(SPREAD):
            self._directory.ask(PROXIES, waiter)
        else:
            # before the other one, so that it is known when that is
            self._directory.ask(PROXIES, Waiter())
            self._directory.ask(topic, waiter)
