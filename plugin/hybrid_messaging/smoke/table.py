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
from hybrid_messaging.smoke.outcome import Success


@dataclass(frozen=True)
class Check:
    """One check.

    :param role: the transport that it is about, `rpc` or `notify`
    :param needs: the checks without whose success this one means nothing
    :param look_at: what to look at if it fails, unless the failure or the kind of
        transport says more
    :param deadline: seconds until it counts as hanging
    :param disruptive: it restarts a server that others may use
    :param shows: what its success shows, in reStructuredText, for the documentation
    """

    name: str
    function: Callable[[Context], Success]
    role: str
    needs: tuple[str, ...] = ()
    look_at: str = "the log of the server that carries it"
    deadline: float = 30.0
    disruptive: bool = False
    shows: str = ""


CHECKS = (
    Check(
        "rpc-connect",
        connect.rpc,
        "rpc",
        shows="the server answers, accepts the user and password, and has the "
        "virtual host; a RabbitMQ accepts the queues that services need "
        "(:doc:`rabbit`)",
    ),
    Check(
        "notify-connect",
        connect.notifications,
        "notify",
        shows="the same for the server that carries notifications",
    ),
    Check(
        "plain-refused",
        encryption.plain_refused,
        "rpc",
        ("rpc-connect", "notify-connect"),
        "the listeners in the server's configuration: one without TLS is left open",
        shows="servers that are used with TLS refuse connections without it; skipped"
        " if neither transport uses TLS",
    ),
    Check(
        "servers",
        rpc.servers,
        "rpc",
        ("rpc-connect",),
        deadline=45,
        shows="server processes subscribe to a topic",
    ),
    Check(
        "call",
        rpc.call,
        "rpc",
        ("servers",),
        shows="a call to a topic is answered",
    ),
    Check(
        "directed",
        rpc.directed,
        "rpc",
        ("servers",),
        deadline=45,
        shows="a call to one of several servers reaches that server; the names "
        "contain dots and an ``@``, as Cinder's do",
    ),
    Check(
        "round-robin",
        rpc.round_robin,
        "rpc",
        ("call",),
        shows="calls to a topic are shared among all of its servers",
    ),
    Check(
        "cast",
        rpc.cast,
        "rpc",
        ("servers",),
        shows="a cast reaches exactly one server",
    ),
    Check(
        "fanout",
        rpc.fanout,
        "rpc",
        ("servers",),
        shows="a fanout reaches every server once",
    ),
    Check(
        "exception",
        rpc.exception,
        "rpc",
        ("call",),
        "the releases of oslo.messaging on both ends",
        shows="an exception that a server raises reaches the caller as the same"
        " exception",
    ),
    Check(
        "large",
        rpc.large,
        "rpc",
        ("call",),
        "the limit on the size of messages",
        shows="a payload of 1 MB arrives and returns unchanged",
    ),
    Check(
        "long-call",
        rpc.long_call,
        "rpc",
        ("call",),
        "whether heartbeats arrive while a server is working",
        shows="heartbeats keep a call alive that lasts longer than "
        "``call_monitor_timeout``",
    ),
    # a service's own configuration has it wait for restart_timeout, a minute by default
    Check(
        "nobody",
        fail_fast.nobody,
        "rpc",
        ("rpc-connect",),
        deadline=90.0,
        shows="a call to a topic without servers fails after "
        "``restart_timeout``, not after its own timeout. That is two "
        "seconds, or what the transport URL says. With a service's "
        "configuration (``--config``), it is what the service waits: 60 "
        "seconds by default",
    ),
    Check(
        "notify-stored",
        notifications.stored,
        "notify",
        ("notify-connect",),
        "the broker's log, and its alarms (memory, disk)",
        shows="a notification without a listener is stored",
    ),
    Check(
        "notify-restart",
        notifications.restart,
        "notify",
        ("notify-stored",),
        deadline=180,
        disruptive=True,
        shows="the broker can be restarted while it stores the notification",
    ),
    Check(
        "notify-delivered",
        notifications.delivered,
        "notify",
        ("notify-stored",),
        deadline=45,
        shows="the notification reaches a listener that starts later, once and "
        "unchanged. Over Kafka, oslo.messaging's driver loses the first "
        "waiting notification, so ``smoke`` sends one more and reports "
        "what became of it",
    ),
    Check(
        "separation",
        separation.separation,
        "notify",
        ("call", "notify-stored"),
        "the transport URLs of the services: `hybrid-messaging check`",
        # rabbitmqctl may have to be asked twice; see servers.rabbit
        deadline=100,
        shows="no RPC is on the server of the notifications (`The proof of"
        " separation`_)",
    ),
    Check(
        "rpc-restart",
        recovery.rpc_restart,
        "rpc",
        ("call",),
        deadline=180,
        disruptive=True,
        shows="servers and clients recover after a restart of the engine for RPC, and"
        " how soon",
    ),
    # the last: it costs a server
    Check(
        "killed",
        fail_fast.killed,
        "rpc",
        ("call",),
        deadline=60,
        shows="a call fails within a second after its server is killed with SIGKILL",
    ),
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
