# SPDX-License-Identifier: Apache-2.0
"""The state of a RabbitMQ, as its management tells.

https://www.rabbitmq.com/docs/http-api-reference
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from hybrid_messaging.engines import EngineError, rabbitmq_http
from hybrid_messaging.servers.insight import Insight, Look, ServerProblem

#: Bytes of an answer that are read at the most.
_LARGEST = 100_000_000
#: What a policy can say that drops notifications.
_DROPPING = ("message-ttl", "expires", "max-length", "max-length-bytes")


class Access(NamedTuple):
    """What is needed to ask a node.

    :param address: scheme, host and port
    :param authorities: as for `tls.client`; None without TLS
    """

    address: str
    username: str
    password: str
    authorities: str | None = None


class Management:
    """Asks the management of one node, with user and password of a URL.

    :param vhost: the virtual host of the URL
    :param named: how many nodes it names
    """

    def __init__(self, access: Access, vhost: str, named: int, look: Look) -> None:
        self._access = access
        self._vhost = quote(vhost, safe="")
        self._named = named
        self._look = look
        word = f"{access.username}:{access.password}".encode()
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(word).decode()}",
        }

    def look_at(self, insight: Insight) -> None:
        """Look at all there is; what we may not see is said."""
        for what, part in (
            ("nodes", self._nodes),
            ("policies and replicas", self._queues),
            ("deprecated features", self._deprecated),
        ):
            self._part(what, part, insight)

    def get(self, path: str) -> Any:
        """Ask for something that is there.

        :param path: below `/api/`
        :raises EngineError: it does not answer, or refuses
        """
        address = self._access.address
        try:
            found = self._get(path)
        except urllib.error.HTTPError as error:
            reason = f"HTTP status {error.code}"
            if error.code in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
                reason += (
                    f"; rabbitmqctl set_user_tags {self._access.username} monitoring "
                    "lets this user ask"
                )
            raise EngineError(
                f"RabbitMQ's management at {address}: {reason}"
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EngineError(f"RabbitMQ's management at {address}: {error}") from error
        if found is None:
            raise EngineError(f"RabbitMQ's management at {address} has no {path}")
        return found

    def _part(
        self, what: str, part: Callable[[], Iterator[ServerProblem]], insight: Insight
    ) -> None:
        try:
            insight.problems += part()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason: object = error
            if isinstance(error, urllib.error.HTTPError):
                reason = f"HTTP status {error.code}"
            insight.unseen.append(f"{what} at {self._access.address}: {reason}")
        except (AttributeError, KeyError, RecursionError, TypeError):
            insight.unseen.append(
                f"{what} at {self._access.address}: unexpected answer"
            )

    def _get(self, path: str) -> Any:
        """Ask for something; None if it is not there."""
        request = urllib.request.Request(  # noqa: S310
            f"{self._access.address}/api/{path}", headers=self._headers
        )
        opener = rabbitmq_http.opener(self._access.authorities)
        try:
            with opener.open(request, timeout=self._look.timeout) as response:
                return json.loads(response.read(_LARGEST))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.client.NOT_FOUND:
                    return None
                raise

    def _nodes(self) -> Iterator[ServerProblem]:
        nodes = self._get("nodes") or []
        running = [node for node in nodes if node["running"]]
        for node in nodes:
            name = node["name"]
            if not node["running"]:
                yield ServerProblem(
                    "node-away",
                    f"node {name} of the RabbitMQ cluster is down",
                    "start it, or remove it from the cluster",
                )
            for alarm, what in (("mem_alarm", "memory"), ("disk_free_alarm", "disk")):
                if node.get(alarm):
                    yield ServerProblem(
                        "server-alarm",
                        f"RabbitMQ blocks publishers: {name} is low on {what}",
                        f"give {name} more {what}, or empty queues that have no"
                        " consumer",
                    )
            if node.get("partitions"):
                yield ServerProblem(
                    "cluster-partitioned",
                    f"node {name} is partitioned from {', '.join(node['partitions'])}",
                    "restart the nodes of the smaller partition",
                )
        if len(running) > 1 and self._named == 1:
            yield ServerProblem(
                "nodes-not-named",
                f"the URL names one of {len(running)} nodes of the RabbitMQ cluster:"
                " if that node is down, services cannot connect",
                "name all nodes in the URL, unless the address stands for all of them",
            )

    def _queues(self) -> Iterator[ServerProblem]:
        nodes = sum(bool(node["running"]) for node in self._get("nodes") or [])
        for name in self._look.queues:
            queue = self._get(f"queues/{self._vhost}/{quote(name, safe='')}")
            if not queue:
                continue
            # RabbitMQ knows best which policy counts
            policy = queue.get("effective_policy_definition") or {}
            dropping = [key for key in _DROPPING if key in policy]
            if dropping:
                which = queue.get("policy") or queue.get("operator_policy")
                yield ServerProblem(
                    "policy-drops-messages",
                    f"policy {which} discards notifications in {name}: "
                    + ", ".join(f"{key} is {policy[key]}" for key in dropping),
                    "remove it or correct its pattern, unless this is intended",
                )
            if queue.get("type") == "quorum":
                yield from _replicated(name, queue, nodes)

    def _deprecated(self) -> Iterator[ServerProblem]:
        for feature in self._get("deprecated-features/used") or []:
            yield ServerProblem(
                "feature-deprecated",
                "RabbitMQ is used in a way that a later release will not allow:"
                f" {feature['name']}{_explained(feature)}",
                "change the options that cause it before you upgrade RabbitMQ",
            )


def _explained(feature: Mapping[str, str]) -> str:
    """What RabbitMQ says of a feature; 4.3 says no more than where to read of it."""
    said = feature.get("desc", "").strip() or feature.get("doc_url", "")
    return f": {said}" if said else ""


def _replicated(
    name: str, queue: Mapping[str, Any], nodes: int
) -> Iterator[ServerProblem]:
    """Whether a quorum queue has the copies that it should.

    :param nodes: how many run
    """
    members, online = queue["members"], queue["online"]
    away = sorted(set(members) - set(online))
    if len(online) * 2 <= len(members):
        yield ServerProblem(
            "queue-without-quorum",
            f"{name} accepts no messages: {', '.join(away)} are down",
            "start these nodes",
        )
    elif away:
        yield ServerProblem(
            "queue-not-replicated",
            f"{name} lacks its replicas on {', '.join(away)} at the moment",
            "start these nodes",
        )
    elif len(members) < min(nodes, 3):
        yield ServerProblem(
            "queue-not-replicated",
            f"{name} has {len(members)} replicas on {nodes} nodes",
            "run rabbitmq-queues grow on each node that lacks one",
        )
