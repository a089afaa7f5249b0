# SPDX-License-Identifier: Apache-2.0
"""Whether RabbitMQ's nodes are one cluster, and its queues have their copies."""

from __future__ import annotations

import base64
import email.utils
import http.client
import json
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hybrid_messaging import urls
from hybrid_messaging.cluster import credentials
from hybrid_messaging.cluster.findings import (
    Access,
    Finding,
    error,
    ok,
    unequal_versions,
    warning,
)
from hybrid_messaging.cluster.rabbitmq import node
from hybrid_messaging.cluster.topology import RABBITMQ, Host
from hybrid_messaging.engines import rabbitmq_http

#: Bytes of an answer: some ten thousand queues.
_LARGEST = 64 << 20
_SHOWN = 3


class Node(NamedTuple):
    """What the management of a node says."""

    version: str
    cluster: str
    #: of the nodes that it knows: name, running, partitions, alarms and more
    nodes: list[dict[str, Any]]
    queues: list[dict[str, Any]]


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at all nodes.

    :param each: `map`, or one that does it all at once
    """
    hosts = access.topology.having(RABBITMQ)
    found: dict[Host, Node] = {}
    for host, said in zip(
        hosts, each(lambda host: _ask(access, host), hosts), strict=True
    ):
        if isinstance(said, str):
            yield error(RABBITMQ, host, f"{said}: start its RabbitMQ")
        else:
            found[host] = said
    for host, said in found.items():
        yield _judge(host, said, hosts)
    yield from unequal_versions(
        RABBITMQ, {host.name: said.version for host, said in found.items()}
    )
    if found:
        yield from _judge_queues(next(iter(found.values())), len(hosts))


def _judge(host: Host, said: Node, hosts: Iterable[Host]) -> Finding:
    running = {row["name"] for row in said.nodes if row.get("running")}
    strangers = [
        other.name
        for other in hosts
        if node(other) not in {r["name"] for r in said.nodes}
    ]
    if strangers:
        return error(
            RABBITMQ,
            host,
            f"is in no cluster with {', '.join(strangers)}: messages sent to one are "
            "not found on the other; stop it, remove its data, and start it again",
        )
    away = [other.name for other in hosts if node(other) not in running]
    if away:
        return error(
            RABBITMQ, host, f"is in a cluster with {', '.join(away)}, not running"
        )
    own = next(row for row in said.nodes if row["name"] == node(host))
    if own.get("partitions"):
        return error(
            RABBITMQ,
            host,
            f"was cut off from {', '.join(map(str, own['partitions']))}: restart it",
        )
    alarms = [
        name
        for name, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm"))
        if own.get(key)
    ]
    if alarms:
        return error(
            RABBITMQ,
            host,
            f"has too little {' and '.join(alarms)}: publishers are blocked",
        )
    return ok(RABBITMQ, host, f"RabbitMQ {said.version}, in the cluster {said.cluster}")


def _judge_queues(said: Node, nodes: int) -> Iterator[Finding]:
    if nodes == 1:
        return
    # exclusive ones and those that go with their users cannot be kept anyway
    lasting = [
        row for row in said.queues if row.get("durable") and not row.get("exclusive")
    ]
    alone = [row["name"] for row in lasting if row.get("type") == "classic"]
    if alone:
        yield warning(
            RABBITMQ,
            None,
            f"{_some(alone)} are on one node each: notifications fail or wait while it "
            "is away; set rabbit_quorum_queue = true, empty and delete them",
        )
    lacking = [
        row["name"]
        for row in lasting
        if row.get("type") == "quorum"
        and len(row.get("online", ())) < len(row.get("members", ()))
    ]
    if lacking:
        yield warning(RABBITMQ, None, f"{_some(lacking)} lack copies of nodes away")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"queues {shown}" + (f" and {more} more" if more > 0 else "")


def time_of(access: Access, host: Host) -> float | None:
    """The time at a node, in seconds since 1970; None if it does not answer."""
    try:
        with _open(access, f"{_address(access, host)}/api/overview") as answer:
            said = answer.headers["Date"]
            return email.utils.parsedate_to_datetime(said).timestamp()
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return None


def _ask(access: Access, host: Host) -> Node | str:
    address = _address(access, host)
    try:
        overview, nodes, queues = (
            _get(access, f"{address}/api/{path}")
            for path in ("overview", "nodes", "queues")
        )
        return Node(
            str(overview["rabbitmq_version"]),
            str(overview["cluster_name"]),
            list(nodes),
            list(queues),
        )
    except (OSError, http.client.HTTPException, ValueError) as failure:
        return f"{address} fails: {_reason(failure)}"
    except RecursionError:
        return (
            f"{address} is no management of RabbitMQ (its answer is nested too deeply)"
        )
    except (KeyError, TypeError) as failure:
        return f"{address} is no management of RabbitMQ ({failure!r} is missing)"


def _reason(failure: Exception) -> str:
    """What the system says, without what urllib wraps around it."""
    cause = getattr(failure, "reason", None)
    if not isinstance(cause, OSError):
        return str(failure)
    return cause.strerror or str(cause)


def _address(access: Access, host: Host) -> str:
    scheme = "https" if access.ca_file else "http"
    port = access.topology.ports["rabbitmq-management"]
    return f"{scheme}://{urls.Host(host.address, port)}"


def _get(access: Access, url: str) -> Any:
    with _open(access, url) as answer:
        return json.loads(answer.read(_LARGEST))


def _open(access: Access, url: str) -> http.client.HTTPResponse:
    login = f"{credentials.MONITOR}:{access.secrets.rabbitmq_monitor}"
    request = urllib.request.Request(  # noqa: S310
        url,
        headers={"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"},
    )
    opener = rabbitmq_http.opener(access.ca_file)
    answer: http.client.HTTPResponse = opener.open(request, timeout=access.timeout)
    return answer
