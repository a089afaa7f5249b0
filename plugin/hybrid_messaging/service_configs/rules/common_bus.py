# SPDX-License-Identifier: Apache-2.0
"""Whether RPC of all services of a deployment goes over one bus.

Addresses alone do not say that: servers may be linked, and on each host the services
may use a router of their own. So servers count as one bus if any service names them
together, or if they say that they are linked. Routers that were not asked, and take the
same user and password, may be linked.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging.servers.amqp import Amqp
from hybrid_messaging.servers.transport import Transport
from hybrid_messaging.service_configs import strays
from hybrid_messaging.service_configs.catalogue import CELLS
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.rules.members import Member

_OPTION = ("DEFAULT", "transport_url")
_NOVA = "nova"


class _User(NamedTuple):
    """A service whose RPC has servers that a file sets.

    :param network: names that the servers say they have, and those linked with them
    :param old: names of the bus that it moves away from, which it still uses
    """

    member: Member
    transport: Transport
    network: frozenset[str]
    old: frozenset[str] = frozenset()

    @property
    def service(self) -> str:
        """Its name."""
        return self.member.config.service.name

    @property
    def file(self) -> Path:
        """What it is started with."""
        return Path(self.member.config.documents[0].path)

    @property
    def names(self) -> frozenset[str]:
        """All that the servers are known by."""
        return _names(self.transport, self.network)

    def meets(self, other: _User) -> bool:
        """Whether both use a bus, be it the one that a service moves away from."""
        mine, its = (each.names | each.old for each in (self, other))
        return not mine.isdisjoint(its)

    def may_be_linked(self, other: _User) -> bool:
        """Whether only the routers of both know if they are linked."""
        return (
            isinstance(self.transport, Amqp)
            and isinstance(other.transport, Amqp)
            and not (self.network and other.network)
            and not _accounts(self.transport).isdisjoint(_accounts(other.transport))
        )


def together(members: Sequence[Member]) -> None:
    """RPC of all services goes over the bus that it goes over for most.

    Each file counts once. Nova's files count once together, as those of other cells
    may differ, and decide if as many services use one bus as another.
    """
    users = [user for member in members for user in _users(member)]
    leading = _leading(users)
    buses = _buses(user.names for user in users)
    votes: dict[object, set[int]] = {}
    for user in leading:
        voter = user.service if user.service == _NOVA else user.file
        votes.setdefault(voter, set()).add(_index(buses, user))
    counts = Counter(bus for found in votes.values() for bus in sorted(found))
    of_nova = votes.get(_NOVA, set())
    common = max(counts, key=lambda bus: (counts[bus], bus in of_nova), default=None)
    with_most = [user for user in users if _index(buses, user) == common]
    spared = _NOVA if any(user.service == _NOVA for user in with_most) else None
    for user in leading:
        if (
            user not in with_most
            and user.service != spared
            and not all(map(user.meets, with_most))
        ):
            user.member.problems.append(_elsewhere(user, with_most))


def _elsewhere(user: _User, with_most: Sequence[_User]) -> Problem:
    others = ", ".join(dict.fromkeys(each.service for each in with_most))
    here, there = (" and ".join(_addresses(each)) for each in (user, with_most[0]))
    message = f"RPC goes to {here}, but RPC of {others} goes to {there}"
    where = user.member.config.where(*_OPTION)
    if any(user.may_be_linked(other) for other in with_most):
        return found(
            "rpc-elsewhere",
            f"{message}: only these routers know whether they are linked",
            "run `check` where they can be reached, or `cluster check`",
            where,
            Severity.NOTE,
        )
    return found(
        "rpc-elsewhere",
        message,
        "give all services that call each other the same transport with `configure`",
        where,
    )


def _users(member: Member) -> Iterable[_User]:
    route = member.routes.rpc
    if (
        route is not None
        and route.transport is not None
        and member.config.is_set(*_OPTION)
        # theirs stays with the notifications
        and not strays.is_on(member.config)
    ):
        old = route.old
        yield _User(
            member,
            route.transport,
            frozenset(route.insight.network),
            _names(old.transport, old.insight.network)
            if old is not None and old.transport is not None
            else frozenset(),
        )


def _names(transport: Transport, network: Iterable[str]) -> frozenset[str]:
    """All that the servers of a transport are known by."""
    linked = (f"{transport.title} {each}" for each in network)
    return frozenset([*map(str, transport.servers), *linked])


def _leading(users: Sequence[_User]) -> list[_User]:
    """Without Nova's files for cells, where it is known which these are.

    These are `CELLS`, and then all that are not beside them.
    """
    places = {
        user.file.parent for user in users if fnmatch.fnmatchcase(user.file.name, CELLS)
    }
    beside = [
        user
        for user in users
        if user.file.parent in places
        and not fnmatch.fnmatchcase(user.file.name, CELLS)
        and user.service == _NOVA
    ]
    return [
        user for user in users if user.service != _NOVA or not beside or user in beside
    ]


def _buses(together: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """Sets of names that have none in common."""
    buses: list[frozenset[str]] = []
    for names in together:
        met = [bus for bus in buses if not bus.isdisjoint(names)]
        apart = [bus for bus in buses if bus.isdisjoint(names)]
        buses = [*apart, names.union(*met)]
    return buses


def _index(buses: Sequence[frozenset[str]], user: _User) -> int:
    return next(
        index for index, bus in enumerate(buses) if not bus.isdisjoint(user.names)
    )


def _addresses(user: _User) -> list[str]:
    return [str(server) for server in sorted(user.transport.servers)]


def _accounts(transport: Transport) -> set[tuple[str, str]]:
    """The users and passwords of a URL, unless it has none."""
    return {
        (host.username, host.password)
        for host in transport.hosts
        if host.username and host.password
    }
