# SPDX-License-Identifier: Apache-2.0
"""Make the checks one after the other, each within its deadline, and clean up."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from oslo_messaging.exceptions import MessagingException

from hybrid_messaging import servers, urls
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers.transport import TransportError
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Result, Skip, Status, Success
from hybrid_messaging.smoke.records import Records
from hybrid_messaging.smoke.run import Run
from hybrid_messaging.smoke.table import Check
from hybrid_messaging.state_directory import StateError

#: Seconds that ending the servers and removing queues may take.
CLEAN_UP_TIMEOUT = 20.0
#: Seconds that closing our own transports may take: we need not wait for it.
CLOSE_TIMEOUT = 1.0


@dataclass(frozen=True)
class Setup:
    """What to check, and how far to go.

    :param state_dir: where `up` keeps what it has started
    :param settings: see `Run`
    :param disruptive: servers may be restarted
    """

    rpc: urls.TransportURL
    notify: urls.TransportURL
    state_dir: Path
    settings: Mapping[str, Mapping[str, Any]] | None = None
    disruptive: bool = False


def plan(setup: Setup) -> Run:
    """Decide on the URLs and names of a run.

    :raises TransportError: if there are no checks for one of the transports
    """
    wanted = {
        role: _for_trial(url, role, setup.settings is not None)
        for role, url in (("rpc", setup.rpc), ("notify", setup.notify))
    }
    return Run(wanted["rpc"], wanted["notify"], setup.settings)


def _for_trial(url: urls.TransportURL, role: str, configured: bool) -> str:
    """A URL with the options that a run wants it to have."""
    if urls.destination(url).driver not in servers.SCHEMES:
        raise TransportError(
            f"this release has no smoke checks for {url.scheme}://, only for "
            + ", ".join(f"{known}://" for known in servers.SCHEMES)
        )
    wanted = servers.get(url).trial_query(role, configured)
    return str(replace(url, query={**wanted, **url.query}))


def results(
    setup: Setup,
    checks: Iterable[Check],
    begin: Callable[[Check], None] = lambda check: None,
    progress: Callable[[str], None] = lambda line: None,
) -> Generator[Result, None, None]:
    """Make checks; each result comes as soon as it is there.

    Ends what it has started and removes what it has made when the last result
    has been taken, or when the iterator is closed.

    :param begin: is told what is about to be checked
    :param progress: takes a line about what a check waits for
    :raises TransportError: if there are no checks for one of the transports
    """
    ended: dict[str, Status] = {}
    with Records() as records:
        context = Context(plan(setup), setup.state_dir, records, progress)
        try:
            for check in checks:
                begin(check)
                records.clear()
                result = _result(check, context, setup.disruptive, ended)
                ended[check.name] = result.status
                yield result
        finally:
            _clean_up(context, ended, progress)


def _result(
    check: Check, context: Context, disruptive: bool, ended: dict[str, Status]
) -> Result:
    unmet = [
        name
        for name in check.needs
        if ended.get(name) not in (Status.PASSED, Status.INFO)
    ]
    if unmet:
        states = ", ".join(f"{name}, which {_HAS[ended[name]]}" for name in unmet)
        return Result(check.name, Status.SKIPPED, None, f"it requires {states}")
    if check.disruptive and not disruptive:
        return Result(
            check.name,
            Status.SKIPPED,
            None,
            "it restarts a server that others may use: allow that with --disruptive",
        )
    start = time.monotonic()
    outcome = _bounded(
        # a server must not be left between its stop and its start
        lambda: check.function(context),
        check.deadline,
        finish=check.disruptive,
    )
    seconds = round(time.monotonic() - start, 3)
    if isinstance(outcome, Success):
        status = Status.PASSED if outcome.promised else Status.INFO
        return Result(check.name, status, seconds, outcome.detail, found=outcome.found)
    if isinstance(outcome, Skip):
        return Result(check.name, Status.SKIPPED, seconds, str(outcome))
    return _failed(check, outcome, seconds, context)


def _failed(
    check: Check, error: BaseException | None, seconds: float, context: Context
) -> Result:
    found: dict[str, Sequence[str]] = {}
    bus = {"rpc": context.rpc, "notify": context.notify}[check.role]
    look_at = bus.transport.look_at.get(check.name, check.look_at)
    if error is None:
        cause = f"it did not end within {check.deadline:g} s"
    elif isinstance(error, Failure):
        cause = str(error)
        found |= error.found
        look_at = error.look_at or look_at
    else:
        cause = f"{type(error).__name__}: {error}"
    if not isinstance(error, (*_EXPECTED, type(None))):
        # what the table says to look at is not about this
        look_at = "the traceback: this is an internal error"
        found["traceback"] = traceback.format_exception(error)
    if lines := context.records.lines():
        found["logged in this process"] = lines
    engine = bus.transport.engine
    if engine is not None:
        found[f"log of {engine.name}"] = [engine.log]
    return Result(
        check.name, Status.FAILED, seconds, urls.redact(cause), look_at, found
    )


#: What goes wrong on a bus; anything else is our own mistake.
_EXPECTED = (Failure, EngineError, MessagingException, StateError, OSError)

_HAS = {
    Status.FAILED: "failed",
    Status.SKIPPED: "was skipped",
}


def _bounded(
    function: Callable[[], Success | None] | Callable[[], None],
    timeout: float,
    finish: bool = False,
) -> Success | BaseException | None:
    """Run a function in a thread that is given up when its time is over.

    :param finish: wait for it even if we are told to end
    :returns: its result, or its exception; None if it is not over
    """
    outcome: list[Success | BaseException | None] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(timeout)
    except BaseException:
        if finish:
            thread.join(timeout)
        raise
    return outcome[0] if outcome else None


def _clean_up(
    context: Context, ended: dict[str, Status], progress: Callable[[str], None]
) -> None:
    """End the servers, then remove what is left on the servers that let us in."""
    _bounded(context.close, CLOSE_TIMEOUT)
    duties: list[tuple[str, Callable[[], None]]] = [
        ("server processes", context.servers.close)
    ]
    for bus in (context.rpc, context.notify):
        if ended.get(f"{bus.role}-connect") is Status.PASSED:
            duties.append((str(bus), partial(bus.transport.clean_up, context.run)))
    for what, duty in duties:
        outcome = _bounded(duty, CLEAN_UP_TIMEOUT)
        if isinstance(outcome, BaseException):
            progress(
                f"{what} could not be removed ({urls.redact(str(outcome))}): remove"
                f" everything that has {context.run.token} in its name"
            )
