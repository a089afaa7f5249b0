# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ on the hosts of a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from hybrid_messaging.cluster import credentials, units
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import RABBITMQ, Host, Topology
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import templates
from hybrid_messaging.engines.kinds.rabbitmq import REFUSES_TRANSIENT_QUEUES

#: From here on RabbitMQ has no other way to deal with partitions than to let the
#: minority wait.
_HANDLES_NO_PARTITIONS = (4, 3)
#: Of the host's memory, and of its disk.
MEMORY_LIMIT, DISK_RESERVE = 0.4, "2GB"

_FOLDER = PurePosixPath("rabbitmq")
_ALL = {"configure": ".*", "write": ".*", "read": ".*"}


def node(host: Host) -> str:
    """The name of a node.

    Erlang compares what follows the @ with the certificate of the node, and looks it up
    in a file of ours.
    """
    return f"{host.name}@{host.name}"


def files(
    topology: Topology, host: Host, secrets: Credentials
) -> Iterator[File | units.Unit]:
    """What the RabbitMQ of a host needs."""
    release = topology.rabbitmq_release
    text = templates.render(
        "cluster-rabbitmq.conf",
        host=host,
        cluster=topology.name,
        nodes=[node(other) for other in topology.having(RABBITMQ)],
        ports=topology.ports,
        tls=topology.tls,
        directory=topology.directory,
        handles_partitions=release < _HANDLES_NO_PARTITIONS,
        refuses_transient_queues=release >= REFUSES_TRANSIENT_QUEUES,
        memory_limit=MEMORY_LIMIT,
        disk_reserve=DISK_RESERVE,
    )
    yield File(_FOLDER / "rabbitmq.conf", text.encode(), private=False)
    yield File(_FOLDER / "enabled_plugins", b"[rabbitmq_management].\n", private=False)
    text = json.dumps(_definitions(topology, secrets), indent=2)
    yield File(_FOLDER / "definitions.json", f"{text}\n".encode())
    text = templates.render(
        "cluster-rabbitmq-hosts.config",
        addresses=[
            (other.name, _erlang(other.address)) for other in topology.having(RABBITMQ)
        ],
    )
    yield File(_FOLDER / "hosts.config", text.encode(), private=False)
    yield File(_FOLDER / "erlang.cookie", secrets.rabbitmq_cookie.encode())
    if topology.tls:
        text = templates.render(
            "cluster-rabbitmq-tls.config", directory=topology.directory
        )
        yield File(_FOLDER / "between-nodes.config", text.encode(), private=False)
    yield _unit(topology, host)


def _definitions(topology: Topology, secrets: Credentials) -> dict[str, object]:
    """https://www.rabbitmq.com/docs/definitions"""
    return {
        "users": [
            {
                "name": name,
                "password_hash": secrets.rabbitmq_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": tags,
            }
            for name, password, tags in (
                (credentials.SERVICE, secrets.rabbitmq, ""),
                (credentials.MONITOR, secrets.rabbitmq_monitor, "monitoring"),
            )
        ],
        "vhosts": [
            {
                "name": name,
                # of durable queues that ask for no other kind, from 3.11 on
                "default_queue_type": "quorum",
                "metadata": {"default_queue_type": "quorum", "tags": []},
            }
            for name in topology.vhosts
        ],
        "permissions": [
            {"user": credentials.SERVICE, "vhost": name, **_ALL}
            for name in topology.vhosts
        ],
    }


def _unit(topology: Topology, host: Host) -> units.Unit:
    folder = f"{topology.directory}/{_FOLDER}"
    state = f"{topology.state}/rabbitmq"
    distribution = f"-kernel inet_dist_use_interface {_erlang(host.address)}"
    tls = f"-proto_dist inet_tls -ssl_dist_optfile {folder}/between-nodes.config"
    environment = {
        "HOME": state,
        "RABBITMQ_NODENAME": node(host),
        "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
        # these need not exist, but without them the system's would be read
        "RABBITMQ_CONFIG_FILES": f"{folder}/conf.d/*.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
        "RABBITMQ_CONF_ENV_FILE": f"{folder}/rabbitmq-env.conf",
        "RABBITMQ_MNESIA_BASE": f"{state}/mnesia",
        "RABBITMQ_LOG_BASE": f"{state}/log",
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": f"{state}/pid",
        "RABBITMQ_DIST_PORT": str(topology.ports["rabbitmq-distribution"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            f"{distribution} {tls}" if topology.tls else distribution
        ),
        "ERL_INETRC": f"{folder}/hosts.config",
        "ERL_EPMD_PORT": str(topology.ports["epmd"]),
        "ERL_EPMD_ADDRESS": host.address,
        # the start script becomes the node instead of waiting for it
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    if topology.tls:
        environment["RABBITMQ_CTL_ERL_ARGS"] = tls
    return units.Unit(
        RABBITMQ,
        "RabbitMQ",
        topology.programs["rabbitmq-server"],
        (
            units.directory(state),
            f"/usr/bin/install -m 400 {folder}/erlang.cookie {state}/.erlang.cookie",
        ),
        environment,
        stop_timeout=120,
    )


def _erlang(address: str) -> str:
    """An IPv4 address as Erlang writes it."""
    return "{" + address.replace(".", ",") + "}"
