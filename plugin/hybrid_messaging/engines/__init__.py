# SPDX-License-Identifier: Apache-2.0
"""Engines: the servers behind the transports.

`kinds` has one module for each kind, and `deployment` starts and ends them together,
if what is `wanted` goes with what is there; `credentials` gives them other users.
`supervisor` and `processes` are about their processes, `log_writer` about what these
print, `ports`, `templates` and `certificates` about what they are given. Kinds need
`java` and `maven`, `container`, `router_program` and `router_users`, `kafka_admin`,
`rabbitmq_management` with `rabbitmq_http`, `amqp_management` and `artemis_management`,
which share `amqp_connection`. Here is what all of them talk about.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_messaging import state

#: Every engine that `up` starts listens here and nowhere else.
HOST = "127.0.0.1"

TakePort = Callable[[int | None], int]
"""Gives a free TCP port: the preferred one if it is free."""

Progress = Callable[[str], None]
"""Takes one line for whoever waits."""


Fetch = Callable[[Progress], "Path | str"]
"""Gets an engine that no distribution packages; returns what it is found by."""


class EngineError(RuntimeError):
    """An engine that cannot be started, reached or understood."""


@dataclass(frozen=True)
class Missing:
    """Something that an engine needs and this machine lacks."""

    what: str
    install: str


@dataclass(frozen=True)
class Certificates:
    """The PEM files that an engine's TLS needs.

    :param authority: the certificate that clients trust
    :param host: the engine's key and certificate, in one file
    """

    authority: str
    host: str

    def seen_from(self, directory: Path) -> Certificates:
        """The same files relative to a directory, for an engine that works there.

        Such a path needs no quoting, whatever directories are called.
        """
        return Certificates(
            os.path.relpath(self.authority, directory),
            os.path.relpath(self.host, directory),
        )


@dataclass(frozen=True)
class Options:
    """What a user may choose about engines; None leaves it to us."""

    #: `embedded`, `skrouterd`, `qdrouterd`, the path of one of these two, `container`
    #: or `container:IMAGE`
    router: str | None = None
    #: the address to listen on
    host: str = HOST
    port: int | None = None
    #: who may use the engine; for a router, ``name@realm``
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: where a router lets in those at its edge, on `host`; None: nowhere
    edge_port: int | None = None
    #: (host, port): where the router in the middle lets in this one, at its edge
    interior: tuple[str, int] | None = None
    #: how many routers carry RPC, each linked to all others
    nodes: int | None = None
    #: names and ports of other routers that this one links itself to, on `host`; empty
    #: where others link themselves to it; None: it has no links
    links: Mapping[str, int] | None = None
    #: directory of an unpacked Kafka release
    kafka: str | None = None
    #: where clients find the engine, if `host` stands for every address
    advertised: str | None = None
    #: refuse whoever comes without TLS, or without user and password
    tls: bool | None = None
    #: those for TLS; None without it
    certificates: Certificates | None = None

    @property
    def ca_file(self) -> str | None:
        """What clients trust; None without TLS."""
        return self.certificates.authority if self.certificates else None


@dataclass(frozen=True)
class Launch:
    """A configured engine and how to start it; `details` are those of its kind."""

    command: tuple[str, ...]
    port: int
    url: str
    environment: Mapping[str, str] | None = None
    details: state.Details = field(default_factory=state.Details)


@dataclass(frozen=True)
class Traffic:
    """How much has gone through an engine since it started.

    Destinations are addresses of a router, queues or topics of a broker, topics that
    a matchmaker knows. `waiting` is None for an engine that stores nothing,
    `received` and `delivered` for one that messages go past, `connections` for one
    that does not tell.
    """

    version: str
    connections: int | None
    destinations: int
    received: int | None
    delivered: int | None
    waiting: int | None = None
