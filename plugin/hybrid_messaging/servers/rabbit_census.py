# SPDX-License-Identifier: Apache-2.0
"""Who uses a virtual host of RabbitMQ: as its management tells, or rabbitmqctl.

The queues and connections are those of oslo.messaging's driver (`impl_rabbit`).
"""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from hybrid_messaging import log_safety
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers import census
from hybrid_messaging.servers.census import Census, Process

#: Gets a list from the management, by its path below `/api/`.
Get = Callable[[str], Any]

#: Queues of replies and fanouts, which only RPC has, and what RabbitMQ names itself.
_REPLIES = re.compile(r"reply_[0-9a-f]+|.+_fanout(_.+)?")
_OTHERS = re.compile(r"amq\..*")
#: What the driver calls a connection: program, process id and a random part.
_NAME = re.compile(r"(?P<name>.*):(?P<pid>[0-9]+):[0-9a-f-]{36}")
#: Seconds for rabbitmqctl, which starts Erlang.
_CTL_TIMEOUT = 60.0


def of_management(get: Get, vhost: str) -> Census:
    """Ask the management.

    :param vhost: the virtual host
    :raises EngineError: it answers oddly
    """
    path = quote(vhost, safe="")
    try:
        queues = get(f"queues/{path}?columns=name,messages,message_stats")
        consumers = get(
            f"consumers/{path}?columns=queue.name,channel_details.connection_name"
        )
        connections = get("connections?columns=name,vhost,peer_host,client_properties")
        # of what begins or ends in this moment, parts are missing: no details are []
        names = {
            item["name"]: (item["peer_host"], item.get("client_properties") or {})
            for item in connections
            if item.get("vhost") == vhost
        }
        users = [
            (
                each["queue"]["name"],
                names.get((each.get("channel_details") or {}).get("connection_name")),
            )
            for each in consumers
        ]
        found = _census("its management", queues, users)
        sent = {
            queue["name"]: (queue.get("message_stats") or {}).get("publish", 0)
            for queue in queues
        }
        counts = any(queue.get("message_stats") for queue in queues)
    except (AttributeError, KeyError, TypeError) as error:
        raise EngineError(f"RabbitMQ's management answers oddly: {error}") from error
    if not counts:
        found.unseen.append(
            "how many requests go over RabbitMQ: its management has no statistics"
        )
        return found
    assert found.notifications is not None
    for name, queue in found.notifications.items():
        found.notifications[name] = queue._replace(arrived=sent[name])
    by_topic = census.topics(name for name in sent if _is_of_requests(name))
    found.requests = Counter()
    for name, topic in by_topic.items():
        found.requests[topic] += sent[name]
    return found


def of_ctl(program: str, vhost: str, port: int) -> Census:
    """Ask rabbitmqctl, on a host of RabbitMQ.

    :param program: its path
    :param vhost: the virtual host
    :param port: from which we are connected to the node that is meant
    :raises EngineError: it does not tell, or of another node
    """

    def ask(*words: str) -> list[dict[str, Any]]:
        command = [program, "-q", *words, "--formatter", "json"]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_CTL_TIMEOUT, check=True
            )
            return list(json.loads(done.stdout))
        except subprocess.CalledProcessError as error:
            said = [line for line in _text(error.stderr).splitlines() if line.strip()]
            reason = said[0] if said else f"exit code {error.returncode}"
            raise EngineError(f"rabbitmqctl {words[0]} fails: {reason}") from error
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = type(error).__name__
            raise EngineError(f"rabbitmqctl {words[0]} fails: {reason}") from error

    listed = ask(
        "list_connections", "pid", "peer_host", "peer_port", "client_properties"
    )
    if port not in [each["peer_port"] for each in listed]:
        raise EngineError(
            "rabbitmqctl tells of another RabbitMQ than the one of the URL: let the "
            "management of that be asked (--rabbitmq-management)"
        )
    queues = ask("list_queues", "-p", vhost, "name", "messages")
    consumers = ask("list_consumers", "-p", vhost, "queue_name", "channel_pid")
    channels = {
        each["pid"]: each["connection"]
        for each in ask("list_channels", "pid", "connection")
    }
    connections = {
        each["pid"]: (
            _address(each["peer_host"]),
            dict(_pairs(each["client_properties"])),
        )
        for each in listed
    }
    users = [
        (each["queue_name"], connections.get(channels.get(each["channel_pid"])))
        for each in consumers
    ]
    found = _census("rabbitmqctl", queues, users)
    found.unseen.append("how many requests go over RabbitMQ: only its management tells")
    return found


def _text(output: bytes | None) -> str:
    return log_safety.block((output or b"").decode(errors="replace"))


def _address(numbers: Any) -> str:
    """What rabbitmqctl makes of an address: its numbers, four or eight."""
    if isinstance(numbers, str):
        return numbers
    if len(numbers) == 4:
        return ".".join(map(str, numbers))
    text = ":".join(f"{number:x}" for number in numbers)
    return str(ipaddress.ip_address(text))


def _pairs(properties: Any) -> Iterable[tuple[str, Any]]:
    """What rabbitmqctl makes of a table of AMQP: [name, type, value], or a mapping."""
    if isinstance(properties, Mapping):
        yield from properties.items()
        return
    for entry in properties:
        if len(entry) == 3:
            yield str(entry[0]), entry[2]


def _census(
    source: str,
    queues: Iterable[Mapping[str, Any]],
    users: Iterable[tuple[str, tuple[str, Mapping[str, Any]] | None]],
) -> Census:
    """Put together what was found.

    :param users: each consumer: its queue, and address and properties of its owner
    """
    notifications: dict[str, census.Queue] = {}
    found = Census(source, notifications=notifications)
    users = list(users)
    # what is said of queues may be some seconds old
    consuming = Counter(name for name, _ in users)
    consumers = {}
    for queue in queues:
        name = str(queue["name"])
        if census.is_notification(name):
            messages = int(queue.get("messages") or 0)
            notifications[name] = census.Queue(messages, consuming[name])
        elif _is_of_requests(name):
            consumers[name] = consuming[name]
    found.listeners = census.listeners(consumers)
    processes: set[Process] = set()
    unnamed = 0
    for name, owner in users:
        if not (name in consumers or _REPLIES.fullmatch(name)):
            continue
        process = _process(*owner) if owner else None
        if process is None:
            unnamed += 1
        else:
            processes.add(process)
    found.processes = frozenset(processes)
    if unnamed:
        found.unseen.append(
            f"whose {unnamed} consumers of RPC are that do not name their process"
        )
    return found


def _is_of_requests(name: str) -> bool:
    return not (
        _REPLIES.fullmatch(name)
        or _OTHERS.fullmatch(name)
        or census.is_notification(name)
    )


def _process(host: str, properties: Mapping[str, Any]) -> Process | None:
    match = _NAME.fullmatch(str(properties.get("connection_name", "")))
    return Process(host, match["name"], int(match["pid"])) if match else None
