# SPDX-License-Identifier: Apache-2.0
"""Ask the servers of a topology whether they are up, and one cluster.

Hosts are asked at the same time, since one that is away takes its whole timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hybrid_messaging.cluster import (
    ClusterError,
    certificate_checks,
    clock_checks,
    credentials,
    kafka_checks,
    rabbitmq_checks,
    redis_checks,
    rendering,
    router_checks,
)
from hybrid_messaging.cluster.findings import Access, Finding
from hybrid_messaging.cluster.topology import (
    INTERIOR,
    KAFKA,
    RABBITMQ,
    REDIS,
    SENTINEL,
    Topology,
)
from hybrid_messaging.engines import certificates

Check = Callable[[Access, Callable[..., Iterable[Any]]], Iterable[Finding]]

#: What looks at the servers of one role, all of them at once.
CHECKS: dict[str, Check] = {
    INTERIOR: router_checks.check,
    REDIS: redis_checks.check,
    SENTINEL: redis_checks.check_sentinels,
    RABBITMQ: rabbitmq_checks.check,
    KAFKA: kafka_checks.check,
}

_AT_ONCE = 16


def check(topology: Topology, directory: Path, timeout: float) -> list[Finding]:
    """Look at every server of a cluster.

    :param directory: where it was rendered
    :param timeout: seconds that a server may take to connect or to answer
    :raises ClusterError: it was not rendered there
    """
    secrets = credentials.load(directory)
    if secrets is None:
        raise ClusterError(
            f"{directory} has no {credentials.FILE}: render the cluster first, or name "
            "the directory into which it was rendered"
        )
    authority = directory / rendering.AUTHORITY / certificates.AUTHORITY
    if topology.tls and not authority.exists():
        raise ClusterError(
            f"{authority} is missing: render the cluster, which makes it, or restore it"
        )
    ca_file = str(authority) if topology.tls else None
    access = Access(topology, secrets, directory, ca_file, timeout)
    findings: list[Finding] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for role, look in CHECKS.items():
            if topology.having(role):
                findings += look(access, pool.map)
        if topology.tls:
            findings += certificate_checks.check(access, pool.map)
        findings += clock_checks.check(access, pool.map)
    return findings
