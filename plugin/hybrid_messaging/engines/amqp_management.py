# SPDX-License-Identifier: Apache-2.0
"""Ask an AMQP 1.0 router about itself, over AMQP.

AMQP Management 1.0 (OASIS working draft 11), operation QUERY, as skupper-router,
Qpid Dispatch and our own router speak it at the address ``$management``.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, TypedDict, cast

import proton

from hybrid_messaging import log_safety, state
from hybrid_messaging.engines import EngineError, amqp_connection

# skupper-router has renamed the entities of Qpid Dispatch, and moved the
# counters out of the entity of the router
_DISPATCH = "qpid-dispatch-router"
_DISPATCH_TYPES = {
    "connection": "org.apache.qpid.dispatch.connection",
    "connector": "org.apache.qpid.dispatch.connector",
    "address": "org.apache.qpid.dispatch.router.address",
    "router": "org.apache.qpid.dispatch.router",
    "node": "org.apache.qpid.dispatch.router.node",
    "metrics": "org.apache.qpid.dispatch.router",
}
_SKUPPER_TYPES = {
    "connection": "io.skupper.router.connection",
    "connector": "io.skupper.router.connector",
    "address": "io.skupper.router.router.address",
    "router": "io.skupper.router.router",
    "node": "io.skupper.router.router.node",
    "metrics": "io.skupper.router.routerMetrics",
}
# skupper-router answers with no more rows than this at once
_PAGE = 500
# of an entity; a large router has some ten thousand addresses
_MOST_ROWS = 1_000_000
_OK = 200
# where a line of the log has its text
_LOGGED = 2
# src/adaptors/amqp/qd_listener.c: the address, why, and both again
_DEAF = re.compile(r"Listener error on (\S+: .+?)(?: - |$)")


class Router(TypedDict):
    """What is read of a router itself; there is more, as in all of these."""

    id: str
    mode: str


class Connection(TypedDict):
    """What is read of a connection, whoever has made it."""

    container: str
    role: str
    host: str
    user: str
    properties: dict[str, Any] | None


class Connector(TypedDict):
    """What is read of a connection that the router makes."""

    name: str
    host: str
    port: str
    connectionStatus: str
    connectionMsg: str


class Address(TypedDict):
    """What is read of an address; `name` is the address itself."""

    name: str
    distribution: str
    subscriberCount: int
    deliveriesIngress: int
    deliveriesEgress: int


class Metrics(TypedDict):
    """What is read of the counters, which begin when the router starts."""

    connectionCount: int
    linkCount: int
    deliveriesIngress: int
    deliveriesEgress: int
    droppedPresettledDeliveries: int


class Management:
    """A connection to the management of a router; use it as a context manager.

    :param host: name or address
    :param port: TCP port
    :param username: with `password`, for routers that want SASL PLAIN
    :param ca_file: the certificates to trust, for routers that want TLS; '': those of
        the system
    :param timeout: seconds that connecting or any answer may take
    :param name: what the router's certificate has to be for, if not for the host
    :raises EngineError: if there is no router
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        timeout: float = 5.0,
        name: str | None = None,
    ) -> None:
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._requests = amqp_connection.Requests(
                (host, port), "$management", username, password, ca_file, timeout, name
            )
        except OSError as error:
            raise self._error(error) from error
        properties = self._requests.remote_properties
        #: what the router says it is, such as ``skupper-router``
        self.product = str(properties.get("product", ""))
        self.version = str(properties.get("version", ""))

    @classmethod
    def of(cls, engine: state.Engine) -> Management:
        """Connect to the management of a router that `up` has started.

        :raises EngineError: if it does not answer
        """
        details = engine.details
        return cls(
            engine.host, engine.port, details.username, details.password, engine.ca_file
        )

    def __enter__(self) -> Management:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._requests.close()

    def connections(self) -> list[Connection]:
        """All connections."""
        return cast(list[Connection], self._query("connection"))

    def connectors(self) -> list[Connector]:
        """The connections that it makes."""
        return cast(list[Connector], self._query("connector"))

    def addresses(self) -> list[Address]:
        """All addresses that clients use."""
        found = [
            {**row, "name": mobile}
            for row in self._query("address", "name")
            if (mobile := _mobile(str(row["name"])))
        ]
        return cast(list[Address], found)

    def nodes(self) -> list[str]:
        """The ids of all routers that it can reach, its own among them."""
        return [str(row["id"]) for row in self._query("node", "id")]

    def router(self) -> Router:
        """The router itself."""
        return cast(Router, self._first("router", "id", "mode"))

    def metrics(self) -> Metrics:
        """Its counters."""
        return cast(Metrics, self._first("metrics"))

    def deaf(self) -> list[str]:
        """Where it could not listen, and why, by its log.

        No entity of skupper-router shows that: it starts all the same, and does not try
        again. It keeps the last 1,000 lines; other routers keep none.
        """
        request = proton.Message(
            properties={
                "operation": "GET-LOG",
                "type": "org.amqp.management",
                "name": "self",
            }
        )
        try:
            rows = self._requests.call(request).body
        except OSError as error:
            raise self._error(error) from error
        texts = [
            str(row[_LOGGED])
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, list) and len(row) > _LOGGED
        ]
        return [log_safety.line(m.group(1)) for m in map(_DEAF.match, texts) if m]

    def _first(self, entity: str, *attributes: str) -> dict[str, Any]:
        rows = self._query(entity, *attributes)
        if not rows:
            raise self._odd(f"reports no {entity}")
        return rows[0]

    def _query(self, entity: str, *attributes: str) -> list[dict[str, Any]]:
        """All rows of an entity.

        :param attributes: what each row has to have
        :raises EngineError: a row lacks one, or there is no end of rows
        """
        types = _DISPATCH_TYPES if self.product == _DISPATCH else _SKUPPER_TYPES
        rows: list[dict[str, Any]] = []
        while True:
            page = self._page(types[entity], len(rows))
            for row in page:
                if lacking := [name for name in attributes if name not in row]:
                    raise self._odd(f"reports no {', '.join(lacking)} of its {entity}")
            rows += page
            if len(page) < _PAGE:
                return rows
            if len(rows) > _MOST_ROWS:
                raise self._odd(f"does not finish its list of {entity}")

    def _page(self, entity_type: str, offset: int) -> list[dict[str, Any]]:
        request = proton.Message(
            properties={
                "operation": "QUERY",
                "type": "org.amqp.management",
                "name": "self",
                "entityType": entity_type,
                "count": _PAGE,
                "offset": offset,
            },
            body={"attributeNames": []},
        )
        try:
            answer = self._requests.call(request)
        except OSError as error:
            raise self._error(error) from error
        properties: dict[str, Any] = answer.properties or {}
        body = answer.body
        if properties.get("statusCode") != _OK or not isinstance(body, dict):
            raise EngineError(
                f"the router at {self._where} does not report its {entity_type}:"
                f" {properties.get('statusDescription')}"
            )
        try:
            names = body["attributeNames"]
            return [
                dict(zip(names, map(_plain, row), strict=False))
                for row in body["results"]
            ]
        except (KeyError, TypeError) as error:
            raise self._odd(
                f"sends an unexpected answer about {entity_type}"
            ) from error

    def _odd(self, what: str) -> EngineError:
        return EngineError(
            f"the router at {self._where} {what}: is it skupper-router, Qpid Dispatch"
            " or the embedded router?"
        )

    def _error(self, error: Exception) -> EngineError:
        return EngineError(
            f"cannot reach AMQP management at {self._where}:"
            f" {error or type(error).__name__}"
        )


def _plain(value: Any) -> Any:
    """Take the AMQP type from a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def _mobile(name: str) -> str:
    """Take the router's prefix for addresses of clients from a name.

    ``M``, in Qpid Dispatch followed by a phase; other classes, and those of the
    router's own services, give ''.
    """
    if not name.startswith("M"):
        return ""
    address = name[2:] if name[1:2].isdigit() else name[1:]
    return "" if address.startswith(("$", "mc/", "sfe.", "vfcr.")) else address
