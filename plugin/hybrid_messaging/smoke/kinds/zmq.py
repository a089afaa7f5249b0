# SPDX-License-Identifier: Apache-2.0
"""zmq://: ZeroMQ, whose matchmaker is asked for the records of its servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote

from hybrid_messaging import log_safety
from hybrid_messaging.drivers.zmq import matchmaker
from hybrid_messaging.drivers.zmq.names import is_loopback, parse
from hybrid_messaging.engines import HOST, EngineError
from hybrid_messaging.service_configs import connecting
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.kinds import RESTART_TIMEOUT, Inventory
from hybrid_messaging.smoke.run import Run

#: Seconds for each answer of the matchmaker.
TIMEOUT = 5.0

_ENDPOINT = (
    "whether clients reach what servers tell: rpc_zmq_host (or the host's name) has to "
    "be resolved, rpc_zmq_min_port to rpc_zmq_max_port to be open"
)

LOOK_AT = {
    "servers": "[oslo_messaging_zmq] rpc_zmq_bind_address: an address of this host",
    "call": _ENDPOINT,
    "directed": _ENDPOINT,
    "cast": _ENDPOINT,
    "fanout": _ENDPOINT,
    "large": "[oslo_messaging_zmq] max_message_size",
    "nobody": "[oslo_messaging_zmq] restart_timeout",
    "killed": "a firewall that lets connections die in silence; idle_timeout",
    "rpc-restart": "Redis' log, and whether its memory is full",
}
DROPS_FIRST = False


def query(role: str, configured: bool) -> Mapping[str, str]:
    """See `hybrid_messaging.smoke.kinds.Kind`; all processes are on this host."""
    if configured:
        return {}
    return {
        "restart_timeout": str(RESTART_TIMEOUT),
        "rpc_zmq_bind_address": HOST,
    }


def grace(bus: Bus) -> float | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return float(bus.options.restart_timeout)


def prepare(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`; notifications do not come here."""


def waiting(bus: Bus, run: Run) -> int | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return None


def inventory(bus: Bus, run: Run) -> Inventory:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    with _matchmaker(bus) as records:
        found = records.read(records.topics())
    own = matchmaker.topic(bus.url.vhost, run.exchange, run.topic)
    names = sorted(
        log_safety.line(
            f"{'/'.join(map(unquote, topic.split('/')))}: {record.server or 'any'} at "
            f"{record.endpoint}, {_encryption(record)}"
        )
        for topic, reading in found.items()
        for record in reading.records
    )
    how = {_encryption(record) for record in found[own].records} if own in found else ()
    note = f"; servers of this run: {' and '.join(sorted(how))}" if how else ""
    return Inventory("the matchmaker's records", {"servers": names}, note=note)


def _encryption(record: matchmaker.Record) -> str:
    """How a server is spoken to."""
    host, _ = parse(record.endpoint)
    if record.key:
        return "CURVE"
    return "plain text on this host" if is_loopback(host) else "plain text"


def is_rpc(bus: Bus, name: str) -> bool:
    """See `hybrid_messaging.smoke.kinds.Kind`; nothing else is there."""
    return True


def clean_up(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`; a killed server's record is left."""
    with _matchmaker(bus) as records:
        records.forget([matchmaker.topic(bus.url.vhost, run.exchange, run.topic)])


@contextmanager
def _matchmaker(bus: Bus) -> Iterator[matchmaker.Matchmaker]:
    try:
        with connecting.zmq_matchmaker(
            bus.url, bus.hosts, bus.options, TIMEOUT
        ) as found:
            yield found
    except connecting.ConnectError as error:
        raise EngineError(str(error)) from error
