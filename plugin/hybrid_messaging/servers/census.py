# SPDX-License-Identifier: Apache-2.0
"""Who uses a bus for RPC, as its servers tell.

Each kind of server shows another part of that. What one does not show is None, and
never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: What `oslo_messaging.notify.Notifier` puts behind the topics of notifications.
_NOTIFICATIONS = re.compile(r".+\.(audit|critical|debug|error|info|sample|warn)")


class NotToldError(Exception):
    """A bus does not tell what a command is about."""


class Listener(NamedTuple):
    """A server of RPC, as clients address it."""

    topic: str
    server: str


class Process(NamedTuple):
    """A process that uses RPC.

    :param host: the address that it connects from
    :param name: of its program
    """

    host: str
    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) on {self.host}"


class Queue(NamedTuple):
    """Where notifications are stored.

    :param messages: those that nobody has read
    :param consumers: how many read it
    :param arrived: how many have come, since the bus has begun to count; None: it does
        not tell
    """

    messages: int
    consumers: int
    arrived: int | None = None


@dataclass
class Census:
    """Who uses a bus.

    :param source: who has told it
    :param listeners: how many processes, or threads, listen as each server
    :param processes: all that use RPC; None: the bus does not tell
    :param requests: calls and casts by topic, since the bus has begun to count; None:
        it does not tell
    :param notifications: the queues of notifications; None: it does not tell
    :param unseen: what is not known, and why
    """

    source: str
    listeners: Counter[Listener] = field(default_factory=Counter)
    processes: frozenset[Process] | None = None
    requests: Counter[str] | None = None
    notifications: dict[str, Queue] | None = None
    unseen: list[str] = field(default_factory=list)


def together(parts: Sequence[Census]) -> Census:
    """Put together what virtual hosts tell; what one does not is not known of all.

    :param parts: at least one
    """
    listeners: Counter[Listener] = Counter()
    processes: frozenset[Process] | None = frozenset()
    requests: Counter[str] | None = Counter()
    notifications: dict[str, Queue] | None = {}
    for each in parts:
        listeners += each.listeners
        if processes is not None:
            known = each.processes
            processes = None if known is None else processes | known
        if requests is not None:
            sent = each.requests
            requests = None if sent is None else requests + sent
        if notifications is not None:
            queues = each.notifications
            notifications = None if queues is None else {**notifications, **queues}
    unseen = list(dict.fromkeys(text for each in parts for text in each.unseen))
    return Census(
        parts[0].source, listeners, processes, requests, notifications, unseen
    )


def is_notification(queue: str) -> bool:
    """Whether a queue of a broker is one for notifications, by its name."""
    return _NOTIFICATIONS.fullmatch(queue) is not None


def listeners(consumers: Mapping[str, int]) -> Counter[Listener]:
    """What the queues of RPC of a broker say.

    Each server has consumers of two: of the topic, and of topic and server with a dot
    between them, which either may contain as well. So the topic is the shortest name
    of a queue that a longer one begins with.

    :param consumers: how many each queue has
    """
    found: Counter[Listener] = Counter()
    for name, count in consumers.items():
        topic = next((part for part in _beginnings(name) if part in consumers), None)
        if topic is not None and count:
            found[Listener(topic, name[len(topic) + 1 :])] = count
    return found


def topics(names: Iterable[str]) -> dict[str, str]:
    """The topic of each queue of RPC, by its name."""
    known = set(names)
    return {
        name: next((part for part in _beginnings(name) if part in known), name)
        for name in known
    }


def _beginnings(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))
