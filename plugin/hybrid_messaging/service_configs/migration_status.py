# SPDX-License-Identifier: Apache-2.0
"""How far a migration is, by what both buses tell of their users."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hybrid_messaging import urls
from hybrid_messaging.servers.census import (
    Census,
    Listener,
    NotToldError,
    Process,
    Queue,
    together,
)
from hybrid_messaging.servers.insight import Look
from hybrid_messaging.servers.transport import Transport
from hybrid_messaging.service_configs import migration
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.migration import Place, Plan, Stage
from hybrid_messaging.service_configs.reading import load
from hybrid_messaging.state import Engine

_Key = tuple[object, str]


@dataclass
class Side:
    """Virtual hosts of one of the two buses, whose users talk to each other.

    :param transports: by what tells them from others
    """

    transports: dict[_Key, Transport] = field(default_factory=dict)

    def census(self, look: Look) -> Census:
        """Who uses them.

        :raises EngineError: one of them does not tell
        """
        return together([each.census(look) for each in self.transports.values()])


@dataclass
class Pair:
    """What services move from, and what they move to.

    Services that had a virtual host each may share one afterwards. Cells of Nova do
    not: their topics have the same names.
    """

    old: Side = field(default_factory=Side)
    new: Side = field(default_factory=Side)

    @property
    def name(self) -> str:
        """What tells it from other pairs: the virtual hosts of the new bus."""
        return ", ".join(key[1] for key in self.new.transports)

    def meets(self, other: Pair) -> bool:
        """Whether they have a virtual host in common."""
        return any(
            mine.transports.keys() & its.transports.keys()
            for mine, its in ((self.old, other.old), (self.new, other.new))
        )


def pairs(
    places: Sequence[Place], plan: Plan, engines: Sequence[Engine] = ()
) -> list[Pair]:
    """The buses of some files, as their services see them.

    :param engines: those that `up` has started
    :raises ServiceConfigError: none of the files says where it has come from
    """
    found: list[Pair] = []
    for place in places:
        _, new, old, _ = place.buses
        if place.buses.stage is Stage.NEW:
            with contextlib.suppress(ServiceConfigError):
                old = migration.former(place, plan)
        if old is None:
            continue
        config, pair = load([place.target.path]), Pair()
        for side, text in ((pair.old, old), (pair.new, new or str(place.url))):
            transport = _of_engine(config.transport(urls.parse(text)), engines)
            key = transport.servers, transport.url.vhost or "/"
            side.transports[key] = transport
        for other in [each for each in found if each.meets(pair)]:
            found.remove(other)
            pair.old.transports = {**other.old.transports, **pair.old.transports}
            pair.new.transports = {**other.new.transports, **pair.new.transports}
        found.append(pair)
    if not found:
        raise ServiceConfigError(
            places[0].target.path,
            "is not part of this migration, or its old bus is not known: give the URL "
            "of that in HYBRID_OLD_URL",
        )
    return found


def _of_engine(transport: Transport, engines: Sequence[Engine]) -> Transport:
    """A transport with the engine of ours that serves it."""
    known = {transport.address(host) for host in transport.hosts}
    for engine in engines:
        if (engine.host, engine.port) in known:
            return dataclasses.replace(transport, engine=engine)
    return transport


def files(places: Iterable[Place]) -> Iterator[str]:
    """What keeps services from leaving the old bus, by their files."""
    old = [str(place.target.path) for place in places if place.buses.stage is Stage.OLD]
    if old:
        yield f"files that are only on the old bus: {_named(old)}"


def notified(before: Census, after: Census, seconds: float) -> Progress:
    """How far a migration of notifications is, by their queues on the old bus.

    :param before: the old bus before the time of counting
    :param after: the old bus after it
    :param seconds: how long that was; 0: nothing was counted
    :raises NotToldError: it does not tell
    """
    queues = after.notifications
    if queues is None or before.notifications is None:
        raise NotToldError("the old bus does not say which notifications wait there")
    missing, uncounted = [], not seconds
    for name, queue in sorted(queues.items()):
        if queue.messages:
            missing.append(
                f"{queue.messages} notifications wait in {name} of the old bus"
            )
        # RabbitMQ counts from the first one on
        known = (before.notifications.get(name) or Queue(0, 0)).arrived or 0
        if queue.arrived is None:
            uncounted = True
        elif seconds and queue.arrived > known:
            missing.append(
                f"{queue.arrived - known} notifications came to {name} of the old bus "
                f"within {seconds:.0f} s"
            )
    unknown = []
    if uncounted:
        unknown.append("whether notifications still come to the old bus")
    return Progress([], None, queues, missing, unknown)


@dataclass
class Topic:
    """The servers of a topic, by name, and its requests while they were counted.

    :param old: those on the old bus alone
    :param both: those on both
    :param new: those on the new bus alone
    :param over_old: requests over the old bus; None: it does not tell
    :param over_new: requests over the new bus; None: it does not tell
    """

    name: str
    old: list[str] = field(default_factory=list)
    both: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    over_old: int | None = None
    over_new: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a migration is.

    :param processes: those that use the old bus alone; None: that cannot be seen
    :param notifications: the queues of the old bus in which they are stored
    :param missing: what keeps services from leaving the old bus
    :param unknown: what could not be seen, and may keep them from it
    """

    topics: list[Topic]
    processes: list[Process] | None
    notifications: Mapping[str, Queue]
    missing: list[str]
    unknown: list[str]


def compare(
    old: tuple[Census, Census], new: tuple[Census, Census], seconds: float
) -> Progress:
    """Compare the buses, each as it was before and after a time of counting.

    :param seconds: how long that was; 0: nothing was counted
    """
    topics = _topics(old[1].listeners, new[1].listeners)
    over_old, over_new = (_sent(*bus, seconds) for bus in (old, new))
    for name in [*(over_old or ()), *(over_new or ())]:
        topics.setdefault(name, Topic(name))
    for name, topic in topics.items():
        topic.over_old = None if over_old is None else over_old[name]
        topic.over_new = None if over_new is None else over_new[name]
    processes = _left_behind(old[1], new[1])
    rows = [topics[name] for name in sorted(topics)]
    return Progress(
        rows,
        processes,
        old[1].notifications or {},
        list(_missing(rows, processes, seconds)),
        list(_unknown(old[1], new[1], processes)),
    )


def _topics(old: Counter[Listener], new: Counter[Listener]) -> dict[str, Topic]:
    """Sort servers by the buses that they are on.

    A server may be several processes, which restart one after the other. As many as
    there are on both buses count as moving, as there is nothing to tell them apart.
    """
    found: dict[str, Topic] = {}
    for listener in sorted(old.keys() | new.keys()):
        topic = found.setdefault(listener.topic, Topic(listener.topic))
        here, there = old[listener], new[listener]
        for where, count in (
            (topic.old, here - there),
            (topic.both, min(here, there)),
            (topic.new, there - here),
        ):
            where += [listener.server] * count
    return found


def _sent(before: Census, after: Census, seconds: float) -> Counter[str] | None:
    """Requests between two looks, of topics that had some.

    Counters begin anew when a server does.
    """
    if before.requests is None or after.requests is None or not seconds:
        return None
    return after.requests - before.requests


def _left_behind(old: Census, new: Census) -> list[Process] | None:
    """The processes that use the old bus alone.

    If a bus is behind a proxy, or an address translation, all its users seem to come
    from there: no address is known to both buses, and processes are known by name
    and number alone.
    """
    if old.processes is None or new.processes is None:
        return None
    there = new.processes
    if {each.host for each in old.processes} & {each.host for each in there}:
        return sorted(old.processes - there)
    known = {(each.name, each.pid) for each in there}
    return sorted(each for each in old.processes if (each.name, each.pid) not in known)


def _missing(
    topics: Iterable[Topic], processes: list[Process] | None, seconds: float
) -> Iterator[str]:
    moving = False
    for topic in topics:
        moving = moving or bool(topic.both or topic.new)
        if topic.old:
            yield (f"servers of {topic.name} on the old bus alone: {_named(topic.old)}")
        if topic.over_old:
            yield (
                f"{topic.over_old} requests for {topic.name} over the old bus within "
                f"{seconds:.0f} s"
            )
    if processes:
        yield f"processes on the old bus alone: {_named(map(str, processes))}"
    if not moving:
        yield "no server listens on the new bus"


def _unknown(
    old: Census, new: Census, processes: list[Process] | None
) -> Iterator[str]:
    if processes is None:
        yield "which clients use only the old bus: not both buses report that"
    yield from (f"old bus: {text}" for text in old.unseen)
    yield from (f"new bus: {text}" for text in new.unseen)


def _named(names: Iterable[str], most: int = 5) -> str:
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
