# SPDX-License-Identifier: Apache-2.0
"""Ask a RabbitMQ that `up` has started about itself, over its HTTP API.

https://www.rabbitmq.com/docs/http-api-reference
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
import urllib.request
from typing import Any, TypedDict

from hybrid_messaging import state, urls
from hybrid_messaging.engines import EngineError, rabbitmq_http

_HTTP_TIMEOUT = 10.0


class Queue(TypedDict):
    """What is read of a queue; there is more."""

    name: str
    vhost: str
    type: str
    durable: bool
    messages: int
    consumers: int


class Exchange(TypedDict):
    """What is read of an exchange; there is more."""

    name: str
    vhost: str
    type: str
    durable: bool


class Connection(TypedDict):
    """What is read of a connection; there is more."""

    name: str
    user: str


def add_vhost(engine: state.Engine, vhost: str) -> str:
    """Create a virtual host, or accept the one that is there.

    :returns: the transport URL for it
    :raises EngineError: if the node refuses
    """
    path = urllib.parse.quote(vhost, safe="")
    username, password = engine.details.username, engine.details.password
    request(engine, "PUT", f"vhosts/{path}", {})
    request(
        engine,
        "PUT",
        f"permissions/{path}/{username}",
        {"configure": ".*", "write": ".*", "read": ".*"},
    )
    return urls.build(
        "rabbit",
        [(engine.host, engine.port)],
        username,
        password,
        vhost,
        urls.tls("rabbit", engine.ca_file),
    )


def add_user(engine: state.Engine, login: state.Login) -> None:
    """Create a user with the rights of ours, or give the one that is there those.

    :raises EngineError: if the node refuses
    """
    name = urllib.parse.quote(login.username, safe="")
    body = {"password": login.password, "tags": "administrator"}
    request(engine, "PUT", f"users/{name}", body)
    ours = urllib.parse.quote(engine.details.username or "", safe="")
    for each in request(engine, "GET", f"users/{ours}/permissions"):
        path = urllib.parse.quote(each["vhost"], safe="")
        rights = {right: each[right] for right in ("configure", "write", "read")}
        request(engine, "PUT", f"permissions/{path}/{name}", rights)


def remove_user(engine: state.Engine, username: str) -> None:
    """Remove a user, if it is there, and end its connections.

    :raises EngineError: if the node refuses
    """
    if username in (each["name"] for each in request(engine, "GET", "users")):
        request(engine, "DELETE", f"users/{urllib.parse.quote(username, safe='')}")


def connections(engine: state.Engine) -> list[Connection]:
    """List all connections of clients.

    :raises EngineError: if the node does not answer
    """
    found: list[Connection] = request(engine, "GET", "connections")
    return found


def queues(engine: state.Engine) -> list[Queue]:
    """List all queues.

    :raises EngineError: if the node does not answer
    """
    found: list[Queue] = request(engine, "GET", "queues")
    return found


def exchanges(engine: state.Engine) -> list[Exchange]:
    """List all exchanges.

    :raises EngineError: if the node does not answer
    """
    found: list[Exchange] = request(engine, "GET", "exchanges")
    return found


def request(engine: state.Engine, method: str, path: str, body: object = None) -> Any:
    """Ask the API something, or have it change something.

    :param path: below ``/api/``
    :param body: for its answer in JSON
    :raises EngineError: it does not answer, or refuses
    """
    details = engine.details_as(state.RabbitMQDetails)
    scheme = "https" if engine.ca_file else "http"
    address = f"{scheme}://{engine.host}:{details.management_port}"
    credentials = f"{details.username}:{details.password}"
    asked = urllib.request.Request(  # noqa: S310
        f"{address}/api/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + base64.b64encode(credentials.encode()).decode(),
            "Content-Type": "application/json",
        },
    )
    opener = rabbitmq_http.opener(engine.ca_file or None)
    try:
        with opener.open(asked, timeout=_HTTP_TIMEOUT) as response:
            text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"RabbitMQ's management at {address}/api/{path} fails: {error}"
        ) from error
    return json.loads(text) if text else None
