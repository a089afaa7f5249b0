# SPDX-License-Identifier: Apache-2.0
"""The table of checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from hybrid_messaging.smoke.checks import (
    connect,
    encryption,
    fail_fast,
    notifications,
    recovery,
    rpc,
    separation,
)
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Finding


@dataclass(frozen=True)
class Check:
    """One check.

    :param role: the transport that it is about, `rpc` or `notify`
    :param needs: the checks without whose success this one means nothing
    :param look_at: what to look at if it fails, unless the failure or the kind of
        transport says more
    :param deadline: seconds until it counts as hanging
    :param disruptive: it restarts a server that others may use
    """

    name: str
    function: Callable[[Context], Finding]
    role: str
    needs: tuple[str, ...] = ()
    look_at: str = "the log of the server that carries it"
    deadline: float = 30.0
    disruptive: bool = False


CHECKS = (
    Check("rpc-connect", connect.rpc, "rpc"),
    Check("notify-connect", connect.notifications, "notify"),
    Check(
        "plain-refused",
        encryption.plain_refused,
        "rpc",
        ("rpc-connect", "notify-connect"),
        "the listeners in the server's configuration: one without TLS is left open",
    ),
    Check("servers", rpc.servers, "rpc", ("rpc-connect",), deadline=45),
    Check("call", rpc.call, "rpc", ("servers",)),
    Check("directed", rpc.directed, "rpc", ("servers",), deadline=45),
    Check("round-robin", rpc.round_robin, "rpc", ("call",)),
    Check("cast", rpc.cast, "rpc", ("servers",)),
    Check("fanout", rpc.fanout, "rpc", ("servers",)),
    Check(
        "exception",
        rpc.exception,
        "rpc",
        ("call",),
        "the releases of oslo.messaging on both ends",
    ),
    Check("large", rpc.large, "rpc", ("call",), "the server's limit on messages' size"),
    Check(
        "long-call",
        rpc.long_call,
        "rpc",
        ("call",),
        "whether heartbeats get through while a server is at work",
    ),
    # a service's own configuration has it wait for restart_timeout, a minute by default
    Check("nobody", fail_fast.nobody, "rpc", ("rpc-connect",), deadline=90.0),
    Check(
        "notify-stored",
        notifications.stored,
        "notify",
        ("notify-connect",),
        "the broker's log, and its alarms (memory, disk)",
    ),
    Check(
        "notify-restart",
        notifications.restart,
        "notify",
        ("notify-stored",),
        deadline=180,
        disruptive=True,
    ),
    Check(
        "notify-delivered",
        notifications.delivered,
        "notify",
        ("notify-stored",),
        deadline=45,
    ),
    Check(
        "separation",
        separation.separation,
        "notify",
        ("call", "notify-stored"),
        "the transport URLs of the services: `hybrid-messaging check`",
        # rabbitmqctl may have to be asked twice; see servers.rabbit
        deadline=100,
    ),
    Check(
        "rpc-restart",
        recovery.rpc_restart,
        "rpc",
        ("call",),
        deadline=180,
        disruptive=True,
    ),
    # the last: it costs a server
    Check("killed", fail_fast.killed, "rpc", ("call",), deadline=60),
)


def select(names: Iterable[str], without: Collection[str] = ()) -> list[Check]:
    """Return some checks and those that they need, in the order of the table.

    :param names: none for all checks
    :param without: are left out, unless others need them
    :raises ValueError: if there is no such check
    """
    by_name = {check.name: check for check in CHECKS}
    wanted: set[str] = set()
    missing = [name for name in list(names) or by_name if name not in without]
    missing += [name for name in without if name not in by_name]
    while missing:
        name = missing.pop()
        if name not in by_name:
            raise ValueError(
                f"there is no check {name!r}; choose from {', '.join(by_name)}"
            )
        if name not in wanted:
            wanted.add(name)
            missing += by_name[name].needs
    return [check for check in CHECKS if check.name in wanted]
