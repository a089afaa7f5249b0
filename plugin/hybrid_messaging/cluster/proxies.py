# SPDX-License-Identifier: Apache-2.0
"""Proxies of zmq:// on the hosts of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from hybrid_messaging.cluster import transports, units
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import ZMQ_PROXY, Host, Topology
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import templates

_CONFIG = PurePosixPath("zmq-proxy/zmq-proxy.conf")


def files(
    topology: Topology, host: Host, secrets: Credentials
) -> Iterator[File | units.Unit]:
    """What the proxy of a host needs."""
    text = templates.render(
        "cluster-zmq-proxy.conf",
        # oslo.config would look for a variable behind a $, and no URL here has one
        url=transports.zmq(topology, secrets, host.zone),
        host=host,
        ports=topology.ports,
    )
    yield File(_CONFIG, text.encode())
    yield units.Unit(
        ZMQ_PROXY,
        "Proxy of zmq://",
        f"{topology.programs['hybrid-messaging']} zmq-proxy"
        f" --config-file {topology.directory}/{_CONFIG}",
    )
