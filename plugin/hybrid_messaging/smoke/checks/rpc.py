# SPDX-License-Identifier: Apache-2.0
"""Does RPC do what services expect of it, across process boundaries?"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from hybrid_messaging.smoke.context import CALL_TIMEOUT, Context
from hybrid_messaging.smoke.endpoint import SmokeError
from hybrid_messaging.smoke.outcome import Failure, Success
from hybrid_messaging.smoke.run import SERVERS
from hybrid_messaging.smoke.servers import Process

#: Seconds until the server processes serve: a busy machine imports for long.
START_TIMEOUT = 120.0
#: Seconds in which a cast has to arrive.
ARRIVAL_TIMEOUT = 30.0
#: Seconds in which a second copy of a message would have come.
SECOND_COPY = 0.1
#: Seconds between two looks at what has come.
POLL = 0.01
#: Calls per server, to see them shared out.
ROUNDS = 4
#: Calls at the same time, and for how many seconds servers keep each: enough to reach
#: servers at a router of another zone, which costs 10.
AT_ONCE, KEEP = 48, 2.0
LARGE = 1024 * 1024
#: Seconds of a long call, and after how many of silence its server counts as dead: a
#: heartbeat is due after half of them, and a busy machine may be late.
LONG, MONITOR = 4.4, 4


def servers(context: Context) -> Success:
    """Start the server processes."""
    return Success(f"{len(_servers(context))} server processes serve")


def call(context: Context) -> Success:
    """Call any server."""
    answer = _echo(context, context.token())
    return Success(f"{answer} answered")


def directed(context: Context) -> Success:
    """Call each server by its name."""
    names = [process.name for process in _servers(context)]
    for name in names:
        answer = _echo(context, context.token(), server=name)
        if answer != name:
            raise Failure(f"a call to {name} was answered by {answer}")
    return Success(f"each of {len(names)} servers received its own call")


def round_robin(context: Context) -> Success:
    """See that calls to the topic are shared out over its servers.

    One of several routers prefers its own servers, until they have more calls to
    answer than those of others.
    """
    names = [process.name for process in _servers(context)]
    answers = Counter(
        _echo(context, context.token()) for _ in range(ROUNDS * len(names))
    )
    if not all(answers[name] for name in names):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers.update(
                pool.map(
                    lambda token: _echo(context, token, seconds=KEEP),
                    [context.token() for _ in range(AT_ONCE)],
                )
            )
    shares = ", ".join(f"{name}: {answers[name]}" for name in names)
    if not all(answers[name] for name in names):
        raise Failure(f"not every server received a share of the calls: {shares}")
    return Success(f"{answers.total()} calls: {shares}")


def cast(context: Context) -> Success:
    """Cast to any server: one of them gets it."""
    token = context.token()
    context.client().cast({}, "note", token=token)
    takers = _takers(context, token, 1)
    if len(takers) != 1:
        raise Failure(f"{len(takers)} servers received a cast that was for one")
    return Success(f"{takers[0]} received it")


def fanout(context: Context) -> Success:
    """Cast to all servers: each of them gets it, once."""
    token = context.token()
    context.client(fanout=True).cast({}, "note", token=token)
    takers = Counter(_takers(context, token, SERVERS))
    if len(takers) < SERVERS:
        raise Failure(f"only {len(takers)} of {SERVERS} servers received a fanout")
    if takers.total() > SERVERS:
        raise Failure(
            f"{SERVERS} servers received {takers.total()} copies of one fanout"
        )
    return Success(f"each of {SERVERS} servers received it once")


def exception(context: Context) -> Success:
    """Have a server raise an exception, and catch it here."""
    token = context.token()
    try:
        context.client().call({}, "fail", text=token)
    except SmokeError as error:
        if token not in str(error):
            raise Failure(
                f"the exception arrived without its text: {error!r}"
            ) from error
        return Success(f"{SmokeError.__name__} arrived unchanged")
    except Exception as error:
        raise Failure(
            f"{SmokeError.__name__} of a server arrived as {type(error).__name__}:"
            f" {error}"
        ) from error
    raise Failure("a server raised an exception, but the caller received a result")


def large(context: Context) -> Success:
    """Send and get back a large payload."""
    _echo(context, context.token() * (LARGE // 16))
    return Success(f"{LARGE} bytes returned unchanged")


def long_call(context: Context) -> Success:
    """Call for longer than the server may be silent: its heartbeats keep it up."""
    client = context.client(timeout=LONG + CALL_TIMEOUT, call_monitor_timeout=MONITOR)
    begin = time.monotonic()
    client.call({}, "work", token=context.token(), seconds=LONG)
    took = time.monotonic() - begin
    return Success(
        f"a call of {took:.1f} s was kept alive past {MONITOR} s by heartbeats"
    )


def _servers(context: Context) -> list[Process]:
    return context.servers.get(SERVERS, START_TIMEOUT)


def _echo(context: Context, data: str, seconds: float = 0.0, **options: str) -> str:
    """Call a server.

    :param seconds: for how long it keeps the call
    :returns: the name of the one that answered
    """
    answer = context.client(**options).call({}, "echo", data=data, seconds=seconds)
    if answer["data"] != data:
        raise Failure(
            f"{answer['server']} answered with other data than it had received"
        )
    return str(answer["server"])


def _takers(context: Context, token: str, expected: int) -> list[str]:
    """Who has got a message; a server that has got it twice is there twice."""
    deadline = time.monotonic() + ARRIVAL_TIMEOUT
    takers: list[str] = []
    while len(takers) < expected and time.monotonic() < deadline:
        time.sleep(POLL)
        takers += _noted(context, token)
    time.sleep(SECOND_COPY)
    return takers + _noted(context, token)


def _noted(context: Context, token: str) -> list[str]:
    return [
        process.name
        for process in _servers(context)
        if process.wait("noted", 0, token=token)
    ]
