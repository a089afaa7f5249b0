# SPDX-License-Identifier: Apache-2.0
"""Engines: the servers behind the transports, one module for each kind.

Adding an engine is adding a module with what `Engine` wants, under the name that
the mode table has for it; `hybrid_messaging.engines.deployment` does the rest.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from hybrid_messaging import state

#: The kinds, as the mode table calls them.
KINDS = ("broker", "kafka", "rabbitmq", "redis", "router")
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
    """A configured engine and how to start it; `details` as in `state.Engine`."""

    command: tuple[str, ...]
    port: int
    url: str
    environment: Mapping[str, str] | None = None
    details: dict[str, Any] = field(default_factory=dict)


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


class Engine(Protocol):
    """What a module of this package offers."""

    #: how people call it
    TITLE: str
    #: seconds from launch until it is ready, at the most
    START_TIMEOUT: float
    #: seconds that it may take to end by itself
    STOP_TIMEOUT: float
    #: what stands before the host in its URLs: `user:password@`, or nothing
    CREDENTIALS: str
    #: where it can be fetched from, if it is no package; the first is the default
    SOURCES: Mapping[str, Fetch]

    def missing(self, options: Options) -> list[Missing]:
        """What this machine lacks to run the engine."""

    def describe(self, options: Options) -> str:
        """Which program would be started."""

    def prepare(
        self,
        name: str,
        directory: Path,
        take_port: TakePort,
        previous: state.Engine | None,
        options: Options,
    ) -> Launch:
        """Write the engine's configuration.

        :param name: the engine's name in its mode
        :param directory: the engine's own, and its working directory
        :param previous: the same engine's former run, for its ports and
            credentials
        :raises EngineError: if it cannot be started on this machine
        """

    def is_ready(self, engine: state.Engine) -> bool:
        """Whether it is this engine that answers, and takes connections."""

    def set_up(self, engine: state.Engine) -> None:
        """Make in an engine that is ready what services expect to be there.

        :raises EngineError: if it refuses
        """

    def traffic(self, engine: state.Engine) -> Traffic:
        """Ask a running engine for its counters.

        :raises EngineError: if it does not answer
        """


def is_available(kind: str) -> bool:
    """Whether this release can start engines of a kind."""
    return kind in KINDS


def get(kind: str) -> Engine:
    """Return the engine of a kind.

    :param kind: as the mode table calls it
    :raises EngineError: if this release cannot start engines of this kind
    """
    if not is_available(kind):
        raise EngineError(f"engine {kind} is not available in this release")
    return cast(Engine, importlib.import_module(f"{__name__}.{kind}"))
