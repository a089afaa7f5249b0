# SPDX-License-Identifier: Apache-2.0
"""What the checks have to know about each kind of transport, one module each.

Adding a transport is adding a module with the functions of `Kind` and its lines
in `MODULES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from hybrid_messaging.service_configs.transports import TransportError

if TYPE_CHECKING:
    from hybrid_messaging.smoke.bus import Bus
    from hybrid_messaging.smoke.run import Run

#: Seconds that a run without a service's configuration waits for servers of a target
#: that has none. Its own servers do not restart, and somebody waits for the result.
RESTART_TIMEOUT = 2

#: By scheme, without what follows a `+` in it.
MODULES = {
    "amqp": "hybrid_messaging.smoke.kinds.amqp",
    "kafka": "hybrid_messaging.smoke.kinds.kafka",
    "kombu": "hybrid_messaging.smoke.kinds.rabbit",
    "rabbit": "hybrid_messaging.smoke.kinds.rabbit",
    "zmq": "hybrid_messaging.smoke.kinds.zmq",
}


@dataclass(frozen=True)
class Inventory:
    """What is found on a server.

    :param source: who has told it
    :param names: by what they are, such as queues
    :param complete: False where only this run's own names could be looked for
    :param note: what else it tells, to be added to `source`
    """

    source: str
    names: Mapping[str, Sequence[str]]
    complete: bool = True
    note: str = ""

    def all(self) -> list[str]:
        """All names, whatever they are."""
        return [name for names in self.names.values() for name in names]


class Kind(Protocol):
    """What a module of this package offers."""

    #: by check, what to look at if it fails on this kind of transport
    LOOK_AT: Mapping[str, str]
    #: the driver drops the first notification that waits for a listener
    DROPS_FIRST: bool

    def query(self, role: str, configured: bool) -> Mapping[str, str]:
        """Options for the transport URL that a run wants, unless it has them.

        :param role: `rpc` or `notify`
        :param configured: the options come from a service's configuration
        """

    def grace(self, bus: Bus) -> float | None:
        """Seconds that a call waits for somebody to listen before it fails.

        None: it waits for its whole timeout.
        """

    def prepare(self, bus: Bus, run: Run) -> None:
        """Make on the server what has to be there before a notification is sent.

        :raises EngineError: if it refuses
        """

    def waiting(self, bus: Bus, run: Run) -> int | None:
        """How many of the run's notifications are stored; None: it cannot tell."""

    def inventory(self, bus: Bus, run: Run) -> Inventory:
        """What is on the server.

        :raises EngineError: if it does not tell
        """

    def is_rpc(self, bus: Bus, name: str) -> bool:
        """Whether a name of the inventory is one that RPC uses, whoever's it is."""

    def clean_up(self, bus: Bus, run: Run) -> None:
        """Remove what the run has left on the server."""


def get(scheme: str) -> Kind:
    """Return the kind of a transport.

    :param scheme: of its URL
    :raises TransportError: if this release has no checks for it
    """
    try:
        module = MODULES[scheme.partition("+")[0]]
    except KeyError:
        raise TransportError(
            f"this release has no smoke checks for {scheme}://; it has for "
            + ", ".join(f"{known}://" for known in MODULES)
        ) from None
    return cast(Kind, importlib.import_module(module))
