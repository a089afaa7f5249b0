# SPDX-License-Identifier: Apache-2.0
"""Do RPC and notifications really go separate ways?"""

from __future__ import annotations

from hybrid_messaging import modes
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers.transport import Inventory
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.checks.rpc import call
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Skip, Success


def separation(context: Context) -> Success:
    """List what is on both servers, and see that no RPC is where notifications are."""
    run, running = context.run, context.running
    rpc, notify = context.rpc, context.notify
    shared = rpc.transport.servers & notify.transport.servers
    if shared and running and modes.get(running.mode).shared:
        raise Skip(f"mode {running.mode} uses one server for both, as intended")
    call(context)  # RPC is under way now, or this fails
    on_rpc, why_rpc = _look(context, rpc)
    on_notify, why_notify = _look(context, notify)
    found = {
        f"{bus.role} {what}": names
        for bus, inventory in ((rpc, on_rpc), (notify, on_notify))
        if inventory is not None
        for what, names in inventory.names.items()
    }
    if shared:
        raise Failure(
            f"RPC and notifications share one server: {rpc} and {notify}",
            "the transport URLs: give notifications a separate server",
            found,
        )
    strangers = {
        name
        for name in (on_notify.all() if on_notify else [])
        if name.startswith(run.topic) or notify.transport.is_rpc(name)
    }
    if strangers:
        raise Failure(
            f"{notify}, which is for notifications, carries RPC: "
            + _few(sorted(strangers)),
            found=found,
        )
    if on_rpc and not any(run.topic in name for name in on_rpc.all()):
        raise Failure(
            f"{rpc} does not have the addresses of this run's servers, although it"
            " should have carried their calls",
            f"the output of {on_rpc.source}; is it the server that the URL names?",
            found,
        )
    proofs = [_proof(rpc, on_rpc, why_rpc), _proof(notify, on_notify, why_notify)]
    return Success("; ".join(proofs), found)


def _look(context: Context, bus: Bus) -> tuple[Inventory | None, str]:
    try:
        return bus.transport.inventory(context.run), ""
    except EngineError as error:
        return None, str(error)


def _proof(bus: Bus, inventory: Inventory | None, why: str) -> str:
    """How much is known about one side, and how."""
    what = {"rpc": "RPC is", "notify": "no RPC is"}[bus.role]
    if inventory is None:
        return (
            f"{what} on {bus}; this is concluded from the URLs only, which is weaker"
            " evidence: " + why
        )
    if not inventory.complete:
        return (
            f"{what} of this run on {bus}, by {inventory.source}; that of others"
            " cannot be seen, which is weaker evidence"
        )
    return f"{what} on {bus}, by {inventory.source}{inventory.note}"


def _few(names: list[str], limit: int = 6) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
