# SPDX-License-Identifier: Apache-2.0
"""The unit files of systemd for servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hybrid_messaging.cluster.topology import Topology
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import templates

#: What the names of all units begin with.
PREFIX = "hybrid-messaging-"


@dataclass(frozen=True)
class Unit:
    """A server under systemd.

    :param name: of the server
    :param before: commands that prepare it, each time before it starts
    :param start_timeout: seconds that these may take
    :param stop_timeout: seconds that it may take to end
    """

    name: str
    title: str
    command: str
    before: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout: int = 60
    stop_timeout: int = 30

    def file(self, topology: Topology) -> File:
        """Its unit file, relative to the host's directory."""
        text = templates.render(
            "cluster.service",
            unit=self,
            cluster=topology.name,
            user=topology.user,
            state=topology.state,
        )
        path = PurePosixPath("systemd") / f"{PREFIX}{self.name}.service"
        return File(path, text.encode(), private=False)


def directory(path: str) -> str:
    """The command that makes a directory that is private."""
    return f"/usr/bin/install -d -m 700 {path}"


def kept(source: str, target: str) -> str:
    """The command that copies a file, unless that was done with what it holds.

    Some servers change their configuration: they go on with the copy, until another
    one has been rendered.
    """
    done = f"{target}.rendered"
    copied = f"cp {source} {target} && cp {source} {done}"
    return f"/bin/sh -c 'cmp -s {source} {done} || {{ {copied}; }}'"
