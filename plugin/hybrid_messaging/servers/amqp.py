# SPDX-License-Identifier: Apache-2.0
"""amqp://: an AMQP 1.0 router or broker, asked through its management."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hybrid_messaging import urls
from hybrid_messaging.drivers.amqp.addressing import ROUTERS
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers.census import Census, Listener, Process
from hybrid_messaging.servers.insight import Insight, Look, ServerProblem
from hybrid_messaging.servers.transport import (
    RESTART_TIMEOUT,
    TIMEOUT,
    ConnectError,
    Inventory,
    Names,
    Transport,
)

if TYPE_CHECKING:
    from hybrid_messaging.engines.amqp_management import Management

_PREFIXES = "the configuration of the router or broker: addresses openstack.org/om/rpc/"
_SETTLED = "[oslo_messaging_amqp] pre_settled: it must not contain rpc-call"

_BROKER = "broker"
#: By what servers say that they are: in Open, the property `product`.
_PRODUCTS = {**dict.fromkeys(ROUTERS, "router"), "apache-activemq-artemis": _BROKER}


class Amqp(Transport):
    """AMQP 1.0, as our driver uses it."""

    title = "AMQP 1.0 router or broker"
    port = 5672
    group = "oslo_messaging_amqp"
    package = "hybrid-messaging"
    tells_traffic = True
    look_at = {
        "call": f"{_PREFIXES}anycast must be balanced, or anycast",
        "round-robin": f"{_PREFIXES}anycast must be balanced, or anycast",
        "cast": f"{_PREFIXES}anycast must be balanced, or anycast",
        "directed": f"{_PREFIXES}unicast must be closest, or anycast",
        "fanout": f"{_PREFIXES}multicast must be multicast",
        "large": "maxMessageSize in the policies of a router, or the disk of a broker",
        "nobody": f"{_SETTLED}; restart_timeout",
        "killed": _SETTLED,
        "separation": (
            "the addresses that are listed: their services need `hybrid-messaging"
            " configure` or a restart"
        ),
        "notify-stored": "the transport URL of notifications: it must name a broker",
    }

    _without_tls = {"ssl": False, "ssl_ca_file": "", "ssl_cert_file": ""}
    _ca_files = ("ssl_ca_file",)

    def known_as(self, said: str) -> tuple[str, str]:
        """See `Transport`."""
        if not said:
            return self.title, self.delivery
        return said, "direct" if said in ROUTERS else "queued"

    def trial_query(self, role: str, configured: bool) -> Mapping[str, str]:
        """See `Transport`."""
        return {} if configured else {"restart_timeout": str(RESTART_TIMEOUT)}

    @property
    def encrypted(self) -> bool:
        """See `Transport`."""
        # it brings oslo.messaging along, which takes longer than most commands
        from hybrid_messaging.drivers.amqp import security

        return security.wants_tls(self.options)

    def _inspect(
        self, hosts: Sequence[urls.Host], look: Look, insight: Insight
    ) -> None:
        """See `Transport`; routers say which others they reach.

        A broker is not asked: it may make a queue of the name of the management.
        """
        known: dict[str, tuple[str, set[str]]] = {}
        for host in hosts if self._are_routers(hosts, look.timeout) else ():
            with (
                contextlib.suppress(EngineError),
                self._management(host, look.timeout) as router,
            ):
                own = router.router()
                name = str(own["id"])
                others = _linked(router, own["mode"])
                insight.network |= {name, *others}
                # those at the edge do not know whom their uplinks know
                if own["mode"] != "edge":
                    known[self.shown(host)] = name, {name, *others}
                if own["mode"] == "interior":
                    insight.problems += [
                        ServerProblem(
                            "router-port-taken",
                            f"the router {self.shown(host)} cannot listen on {where}:"
                            " nobody can connect to it there",
                            "stop what has this port, or correct the address, and"
                            " restart the router, which does not try again",
                        )
                        for where in router.deaf()
                    ]
        insight.problems += [
            ServerProblem(
                "routers-apart",
                f"the routers {one} and {other} are not connected to each other:"
                " services on one do not find those on the other",
                "link them (hybrid-messaging cluster render), or name only one of them",
            )
            for one, other in itertools.combinations(known, 2)
            if known[one][0] not in known[other][1]
            or known[other][0] not in known[one][1]
        ]

    def _are_routers(self, hosts: Sequence[urls.Host], timeout: float) -> bool:
        """Whether these are routers."""
        try:
            return all(self.connect(host, timeout) in ROUTERS for host in hosts)
        except ConnectError:  # it is gone by now
            return False

    def _management(self, host: urls.Host, timeout: float) -> Management:
        from hybrid_messaging.engines.amqp_management import Management

        return Management(
            *self.address(host),
            host.username,
            host.password,
            self.options.ssl_ca_file if self.encrypted else None,
            timeout,
            self.url.vhost if self.options.ssl_verify_vhost else None,
        )

    def grace(self) -> float | None:
        """See `Transport`.

        A router knows who listens. A broker keeps a call for whoever may come.
        """
        for host in self.hosts:
            with contextlib.suppress(ConnectError):
                if self.connect(host, TIMEOUT) not in ROUTERS:
                    return None
                break
        return float(self.options.restart_timeout)

    def engine_kind(self, said: str) -> str | None:
        """See `Transport`."""
        return _PRODUCTS.get(said)

    def _connect(self, host: urls.Host, timeout: float) -> str:
        from hybrid_messaging.servers import amqp_session

        return amqp_session.greet(self, host, timeout)

    def waiting(self, names: Names) -> int | None:
        """See `Transport`; only a broker of ours tells."""
        if self.engine is None or self.engine.kind != _BROKER:
            return None
        from hybrid_messaging.engines.artemis_management import ArtemisManagement

        with ArtemisManagement.of(self.engine) as management:
            return sum(
                int(row["messageCount"])
                for row in management.queues()
                if row["name"].endswith(
                    f"/{names.notify_exchange}/{names.notify_queue}"
                )
            )

    def inventory(self, names: Names) -> Inventory:
        """See `Transport`; the first server that answers tells."""
        from hybrid_messaging.engines.artemis_management import ArtemisManagement

        if self.engine is not None and self.engine.kind == _BROKER:
            with ArtemisManagement.of(self.engine) as management:
                found = sorted(row["name"] for row in management.queues())
            return Inventory("its management", {"queues": found})
        for host in self.hosts:
            try:
                with self._management(host, TIMEOUT) as router:
                    found = sorted(row["name"] for row in router.addresses())
            except EngineError as error:
                failure = error
            else:
                return Inventory("its management", {"addresses": found})
        raise failure

    def census(self, look: Look) -> Census:
        """See `Transport`; each router of the URL tells of its own clients."""
        found = Census("the management of its routers", processes=frozenset())
        found.requests = Counter()
        asked: set[str] = set()
        others: set[str] = set()
        for host in self.hosts:
            try:
                with self._management(host, look.timeout) as router:
                    own = router.router()
                    if own["id"] in asked:  # two names of one
                        continue
                    if own["mode"] == "interior":
                        others.update(router.nodes())
                    elif own["mode"] == "edge":
                        others.add(f"beyond {own['id']}")
                    self._count(router, found)
                    asked.add(own["id"])
            except EngineError as error:
                failure = error
                found.unseen.append(str(error))
        if not asked:
            raise failure
        if unasked := sorted(others - asked):
            found.unseen.append(
                f"clients of the routers {', '.join(unasked)}: name them in the URL"
            )
        return found

    def _count(self, router: Management, found: Census) -> None:
        """Add what one router tells."""
        options = self.options
        wanted = ((options.anycast_address, 2), (options.unicast_address, 3))
        for row in router.addresses():
            cast, _, rest = (
                row["name"]
                .removeprefix(f"{self.options.rpc_address_prefix}/")
                .partition("/")
            )
            parts = rest.split("/")
            if self.options.pseudo_vhost and self.url.vhost:
                if parts[0] != self.url.vhost:
                    continue
                del parts[0]
            # exchange, topic, and server; what has more is of other virtual hosts
            if (cast, len(parts)) not in wanted:
                continue
            if found.requests is not None:
                found.requests[parts[1]] += row["deliveriesIngress"]
            if len(parts) > 2 and row["subscriberCount"]:
                found.listeners[Listener(parts[1], parts[2])] += row["subscriberCount"]
        processes = set(found.processes or ())
        for connection in router.connections():
            properties = connection.get("properties") or {}
            if {"process", "pid"} <= properties.keys():
                address = connection["host"].rpartition(":")[0].strip("[]")
                processes.add(
                    Process(address, str(properties["process"]), properties["pid"])
                )
        found.processes = frozenset(processes)

    def is_rpc(self, name: str) -> bool:
        """See `Transport`."""
        return name.startswith(f"{self.options.rpc_address_prefix}/")

    def clean_up(self, names: Names) -> None:
        """See `Transport`.

        Addresses of a router go with their users, and so do a broker's for RPC.
        """
        if self.engine is None or self.engine.kind != _BROKER:
            return
        from hybrid_messaging.engines.artemis_management import ArtemisManagement

        with ArtemisManagement.of(self.engine) as management:
            for row in management.queues():
                if names.notify_queue in row["name"]:
                    management.remove(row["name"])


def _linked(router: Management, mode: str) -> set[str]:
    """The ids of the routers that one can reach, as far as it knows."""
    if mode == "interior":
        return set(router.nodes())
    if mode == "edge":
        links = (link for link in router.connections() if link.get("role") == "edge")
        return {str(link.get("container")) for link in links}
    return set()
