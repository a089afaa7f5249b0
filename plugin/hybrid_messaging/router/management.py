# SPDX-License-Identifier: Apache-2.0
"""The address `$management`: what the router does, told in AMQP management's terms.

Types and attributes are skupper-router's, so that its tools and ours read both
routers alike. Only what can be looked at is here: QUERY, READ.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import proton
import psutil

from hybrid_messaging.protocol.codec import MalformedMessage
from hybrid_messaging.protocol.endpoint import ACCEPTED, Delivery
from hybrid_messaging.protocol.proton_c import lib
from hybrid_messaging.router import VERSION, requests
from hybrid_messaging.router.addresses import Address, Dynamic
from hybrid_messaging.router.connection import Connection
from hybrid_messaging.router.links import Consumer, Producer, undecodable
from hybrid_messaging.router.requests import Request
from hybrid_messaging.router.server import Listener, Router

#: Types are known with and without a prefix; Qpid Dispatch had another one.
PREFIXES = ("io.skupper.router.", "org.apache.qpid.dispatch.")

#: Rows that an answer has at most, as skupper-router's: qpid-proton encodes no message
#: of more than 65,535 values.
PAGE = 500
#: A number of rows that no router has.
_FAR = 1 << 31

Row = dict[str, Any]


class Management(Address):
    """The address that answers questions about the router."""

    distribution = "closest"
    shared = False

    def __init__(self, router: Router) -> None:
        super().__init__("$management")
        self._router = router
        self._resting = False

    @property
    def reachable(self) -> bool:
        """It always is."""
        return True

    def forward(
        self, data: bytes, origin: Delivery | None, since: float | None = None
    ) -> bool:
        """Answer a request, at the address it names for the reply.

        An answer may be long: there is one in a turn, and others wait with their links.
        """
        if self._resting:
            return False
        self._resting = True
        self._router.later(self._go_on)
        self.messages_in += 1
        try:
            request = requests.read(data)
        except MalformedMessage as error:
            outcome = undecodable(error)
        else:
            outcome = ACCEPTED
            self._answer(request)
        if origin is not None:
            origin.link.context.settle(origin, outcome)
        return True

    def _go_on(self) -> None:
        self._resting = False
        self.pump()

    def _answer(self, request: Request) -> None:
        address = self._router.table.find(request.reply_to or "")
        if address is None or address is self or not address.reachable:
            return
        try:
            reply = _reply(request, 200, "OK", self._perform(request))
        except _Refusal as refusal:
            reply = _reply(request, refusal.code, str(refusal))
        except Exception as error:  # what peers say of themselves may be no AMQP
            reply = _reply(request, 500, f"{type(error).__name__}: {error}")
        address.forward(reply, None)

    def _perform(self, request: Request) -> Row | list[str]:
        operation = request.asked.get("operation")
        if operation == "QUERY":
            return self._query(request.asked, request.names)
        if operation == "READ":
            return self._read(request.asked)
        if operation == "GET-MGMT-NODES":
            return []  # no other routers
        raise _Refusal(501, f"Operation '{operation}' is not implemented")

    def _query(self, asked: Row, names: list[str]) -> Row:
        offset, count = asked.get("offset"), asked.get("count")
        start = min(offset, _FAR) if isinstance(offset, int) and offset > 0 else 0
        size = min(count, PAGE) if isinstance(count, int) and count > 0 else PAGE
        found = self._rows(asked.get("entityType"))
        rows = list(itertools.islice(found, start, start + size))
        known = dict.fromkeys(key for row in rows for key in row)
        wanted = [name for name in dict.fromkeys(names or known) if name in known]
        return {
            "attributeNames": wanted,
            "results": [[row.get(name) for name in wanted] for row in rows],
        }

    def _read(self, asked: Row) -> Row:
        rows = self._rows(asked.get("type"))
        key = "identity" if asked.get("identity") is not None else "name"
        for row in rows:
            if row[key] == asked.get(key):
                return row
        raise _Refusal(404, f"No entity with {key}={asked.get(key)}")

    def _rows(self, kind: Any) -> Iterator[Row]:
        name = kind if isinstance(kind, str) else ""
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        rows = _TYPES.get(name)
        if rows is None:
            raise _Refusal(400, f"No such entity type '{kind}'")
        return ({"type": PREFIXES[0] + name, **row} for row in rows(self._router))


def _reply(request: Request, code: int, text: str, body: Any = None) -> bytes:
    reply = proton.Message(address=request.reply_to)
    reply.correlation_id = request.correlation_id
    reply.body = {} if body is None else body
    properties: Any = {"statusCode": proton.int32(code), "statusDescription": text}
    reply.properties = properties
    return bytes(reply.encode())


class _Refusal(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


# -- the types -----------------------------------------------------------


def _router(router: Router) -> Iterable[Row]:
    config = router.config
    name = f"router/{config.id}"
    yield {
        "name": name,
        "identity": name,
        "id": config.id,
        "mode": "standalone",
        "version": VERSION,
        "hostName": socket.gethostname(),
        "defaultDistribution": config.default_distribution,
        "saslConfigDir": config.sasl_config_dir or None,
        "saslConfigName": config.sasl_config_name,
        "workerThreads": 1,
        "area": "0",
        **dict.fromkeys(_OF_A_NETWORK, 0),
        **dict.fromkeys(_NOT_SET),
        **_counters(router),
    }


def _metrics(router: Router) -> Iterable[Row]:
    yield {
        "name": "1",
        "identity": "1",
        "id": router.config.id,
        "version": VERSION,
        **_counters(router),
    }


def _counters(router: Router) -> Row:
    table = router.table
    memory = psutil.Process().memory_info()
    return {
        "uptimeSeconds": int(time.monotonic() - router.started_at),
        "memoryUsage": memory.vms,
        "residentMemoryUsage": memory.rss,
        "connectionCount": len(router.connections),
        "linkCount": sum(
            len(item.producers) + len(item.consumers)
            for item in router.connections.values()
        ),
        "addrCount": len(table),
        "nodeCount": 0,
        "autoLinkCount": 0,
        "deliveriesIngress": table.messages_in,
        "deliveriesEgress": table.messages_out,
        "deliveriesTransit": 0,
        "presettledDeliveries": table.presettled,
        "droppedPresettledDeliveries": table.dropped,
        "acceptedDeliveries": table.outcomes[lib.PN_ACCEPTED],
        "rejectedDeliveries": table.outcomes[lib.PN_REJECTED],
        "releasedDeliveries": table.outcomes[lib.PN_RELEASED],
        "modifiedDeliveries": table.outcomes[lib.PN_MODIFIED],
    }


#: what skstat wants to show of a router; one router alone has none of it
_OF_A_NETWORK = (
    "helloIntervalSeconds",
    "helloMaxAgeSeconds",
    "raIntervalSeconds",
    "raIntervalFluxSeconds",
    "remoteLsMaxAgeSeconds",
)
_NOT_SET = (
    "debugDumpFile",
    "timestampsInUTC",
    "timestampFormat",
    "metadata",
    "dataConnectionCount",
)


def _connections(router: Router) -> Iterable[Row]:
    return map(_connection, router.connections.values())


def _connection(connection: Connection) -> Row:
    endpoint, transport = connection.endpoint, connection.endpoint.transport
    now = time.monotonic()
    return {
        "name": f"connection/{connection.peer}",
        "identity": str(connection.number),
        "host": connection.peer,
        "container": connection.container,
        "role": "normal",
        "dir": "in",
        "protocol": "amqp",
        "opened": endpoint.opened,
        "operStatus": "closing" if endpoint.closed else "up",
        "adminStatus": "enabled",
        "user": connection.user,
        "isAuthenticated": bool(transport.authenticated),
        "sasl": connection.terms.mechanism(transport),
        "isEncrypted": bool(transport.encrypted),
        "ssl": connection.terms.protocol(transport) is not None,
        "sslProto": connection.terms.protocol(transport),
        "sslCipher": connection.terms.cipher(transport),
        "uptimeSeconds": int(now - connection.opened_at),
        "lastDlvSeconds": None,
        "meshId": None,
        "properties": connection.properties,
    }


def _addresses(router: Router) -> Iterable[Row]:
    return map(_address, router.table)


def _key(address: Address | None) -> str | None:
    # the router's own addresses are local to it, the others mobile
    if address is None:
        return None
    return ("L" if isinstance(address, Dynamic) else "M") + address.name


def _address(address: Address) -> Row:
    built_in = isinstance(address, Management)
    return {
        "name": _key(address),
        "identity": _key(address),
        "key": _key(address),
        "distribution": address.distribution,
        "inProcess": int(built_in),
        "subscriberCount": len(address.consumers),
        "remoteCount": 0,
        "deliveriesIngress": address.messages_in,
        "deliveriesEgress": address.messages_out,
        "deliveriesTransit": 0,
        "deliveriesToContainer": address.messages_in if built_in else 0,
        "deliveriesFromContainer": 0,
        "priority": -1,
        "watch": False,
    }


def _links(router: Router) -> Iterable[Row]:
    for connection in router.connections.values():
        for producer in connection.producers:
            yield _link(connection, producer, "in") | {
                "undeliveredCount": int(producer.held is not None),
                "droppedPresettledCount": producer.dropped,
                "creditAvailable": producer.link.credit,
            }
        for consumer in connection.consumers:
            yield _link(connection, consumer, "out") | {
                "undeliveredCount": len(consumer.queue),
                "droppedPresettledCount": consumer.missed,
                "creditAvailable": max(0, consumer.link.credit),
            }


def _link(connection: Connection, end: Producer | Consumer, direction: str) -> Row:
    name = end.link.name
    return {
        "name": name,
        "identity": f"{connection.number}/{direction}/{name}",
        "linkName": name,
        "linkType": "endpoint",
        "linkDir": direction,
        "owningAddr": _key(end.address),
        "connectionId": str(connection.number),
        "capacity": end.capacity,
        "unsettledCount": end.link.unsettled,
        "deliveryCount": end.messages,
        "adminStatus": "enabled",
        "operStatus": "up",
        "zeroCreditSeconds": 0,
        **dict.fromkeys(_NOT_COUNTED),
    }


#: skupper-router counts these for each link, we for the router as a whole
_NOT_COUNTED = (
    "presettledCount",
    "acceptedCount",
    "rejectedCount",
    "releasedCount",
    "modifiedCount",
)


def _listeners(router: Router) -> Iterable[Row]:
    return map(_listener, router.listeners)


def _listener(listener: Listener) -> Row:
    name = f"listener/{listener.address}"
    config = listener.terms.listener
    host, port = listener.socket.getsockname()[:2]
    return {
        "name": config.name or name,
        "identity": name,
        "host": host,
        "port": str(port),
        "role": "normal",
        "authenticatePeer": config.authenticate_peer,
        "saslMechanisms": config.sasl_mechanisms or None,
        "sslProfile": config.ssl_profile.name if config.ssl_profile else None,
        "requireSsl": config.require_ssl,
        "idleTimeoutSeconds": config.idle_timeout,
        "linkCapacity": config.link_capacity,
    }


def _network(router: Router) -> Iterable[Row]:
    yield {"name": "1", "identity": "1", "networkId": None, "tenantId": None}


_TYPES: dict[str, Callable[[Router], Iterable[Row]]] = {
    "router": _router,
    "routerMetrics": _metrics,
    "network": _network,
    "connection": _connections,
    "listener": _listeners,
    "router.address": _addresses,
    "router.link": _links,
}
