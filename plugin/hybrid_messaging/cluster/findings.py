# SPDX-License-Identifier: Apache-2.0
"""What is found out about the servers of a cluster, and what it takes to ask them."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import Host, Topology


class Severity(enum.Enum):
    """How grave a finding is."""

    OK = "ok"
    #: it works, and less may go wrong than should
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One server, or a role as a whole.

    :param host: its name; '' for what concerns all hosts of the role
    :param message: what it is, or what is wrong with it and what to do
    """

    severity: Severity
    role: str
    host: str
    message: str


@dataclass(frozen=True)
class Access:
    """What it takes to ask the servers of a cluster.

    :param directory: where it was rendered
    :param ca_file: the certificate to trust; None without TLS
    :param timeout: seconds that a server may take to connect or to answer
    """

    topology: Topology
    secrets: Credentials = field(repr=False)
    directory: Path
    ca_file: str | None
    timeout: float


def ok(role: str, host: Host, message: str) -> Finding:
    """A server that is as it should be."""
    return Finding(Severity.OK, role, host.name, message)


def error(role: str, host: Host | None, message: str) -> Finding:
    """What has to be mended, of a host or of all."""
    return Finding(Severity.ERROR, role, host.name if host else "", message)


def warning(role: str, host: Host | None, message: str) -> Finding:
    """What should be mended, of a host or of all."""
    return Finding(Severity.WARNING, role, host.name if host else "", message)


def unequal_versions(role: str, versions: Mapping[str, str]) -> Iterator[Finding]:
    """Say that servers of a role have different releases.

    :param versions: by host
    """
    if len(set(versions.values())) > 1:
        usual = Counter(versions.values()).most_common(1)[0][0]
        others = ", ".join(
            f"{host} has {version}"
            for host, version in versions.items()
            if version != usual
        )
        yield warning(
            role, None, f"most have {usual}, {others}: finish the upgrade of all hosts"
        )
