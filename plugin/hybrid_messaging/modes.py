# SPDX-License-Identifier: Apache-2.0
"""The mode table: which transport and engine carry RPC and notifications.

The table itself is the file ``files/modes``, which the shell half reads too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybrid_messaging import resources

TABLE = resources.FILES / "modes"
#: The mode that is taken when nobody names one.
DEFAULT = "qpid-hybrid"
#: Engine of a role for which nothing is started.
NO_ENGINE = "none"
#: Transport of a mode that takes any URL.
ANY_TRANSPORT = "any"

_SAME_ENGINE = "same"


class ModeError(ValueError):
    """A mode that does not exist, or a table that cannot be read."""


@dataclass(frozen=True)
class Placement:
    """One engine of a mode: its name there, its kind, and the roles it serves."""

    name: str
    kind: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Mode:
    """One line of the mode table.

    Transports are schemes of transport URLs, or `ANY_TRANSPORT`; engines are
    kinds, or `NO_ENGINE`.
    """

    name: str
    rpc: str
    rpc_engine: str
    notify: str
    notify_engine: str
    #: one server carries both RPC and notifications
    shared: bool = False

    @property
    def engines(self) -> tuple[Placement, ...]:
        """The engines to run: RPC's first, an engine for both roles once."""
        if self.shared:
            return (Placement(self.rpc_engine, self.rpc_engine, ("rpc", "notify")),)
        kinds = {"rpc": self.rpc_engine, "notify": self.notify_engine}
        twice = self.rpc_engine == self.notify_engine
        return tuple(
            Placement(f"{kind}-{role}" if twice else kind, kind, (role,))
            for role, kind in kinds.items()
            if kind != NO_ENGINE
        )


def load(table: Path = TABLE) -> dict[str, Mode]:
    """Read the mode table.

    :param table: the file to read
    :returns: modes by name, in the order of the table
    :raises ModeError: if a line does not have the columns of a mode, or names
        a mode a second time
    """
    modes: dict[str, Mode] = {}
    for number, line in enumerate(table.read_text("utf-8").splitlines(), start=1):
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        if len(columns) != 5:
            raise ModeError(f"{table}:{number}: a mode needs 5 columns: {line!r}")
        name, rpc, rpc_engine, notify, notify_engine = columns
        if name in modes:
            raise ModeError(f"{table}:{number}: mode {name} is already defined")
        shared = notify_engine == _SAME_ENGINE
        modes[name] = Mode(
            name,
            rpc,
            rpc_engine,
            notify,
            rpc_engine if shared else notify_engine,
            shared,
        )
    return modes


def get(name: str) -> Mode:
    """Return one mode of the table.

    :raises ModeError: if there is no such mode; the message lists those there are
    """
    modes = load()
    try:
        return modes[name]
    except KeyError:
        raise ModeError(
            f"there is no mode {name!r}; choose one of {', '.join(modes)}"
        ) from None
