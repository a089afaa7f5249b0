# SPDX-License-Identifier: Apache-2.0
"""A soak: clients send for a long time, while servers are killed, hang and restart.

One server at a time is disturbed, at random, and every message is accounted for. All
ledgers are files, so that a server that was killed has left its own, and the account
can be looked at on the way.
"""

from __future__ import annotations

import math
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hybrid_messaging.bench import buses, ledger
from hybrid_messaging.bench.assignment import Assignment, Clock, Timing
from hybrid_messaging.bench.crew import Crew, LocalWorkers
from hybrid_messaging.bench.ledger import Encoded, Numbers
from hybrid_messaging.bench.parameters import RPC_KINDS
from hybrid_messaging.bench.verdict import (
    Books,
    Killing,
    Verdict,
    every,
    executed_by,
    judge,
    without,
)
from hybrid_messaging.bench.worker_reports import Produced

#: Seconds that workers may take to start, and to connect.
START_TIMEOUT = 600.0
#: Seconds that a server may take to end what it has begun, and to be gone.
STOP_TIMEOUT = 60.0
#: Seconds beyond the timeout of a call that clients may take to end.
END_GRACE = 60.0
#: Seconds in which a server has begun what it had confirmed, even if it hung meanwhile.
BEGUN_AFTER = 60.0
#: Seconds in which senders have learnt what a server confirmed before it was killed.
LEARNT_AFTER = 5.0
#: Seconds in which a fanout has reached a server that has room.
REACHED_AFTER = 5.0
#: Seconds between two looks at the ledgers.
TICK = 1.0
#: Threads of a server: few, so that messages wait in it now and then.
POOL = 8
#: Seconds that methods take: one in so many keeps its thread busy for a while. It is a
#: prime number, so that each server has its share of them.
WORK = (*(0.01,) * 52, 3.0)
#: The timeout, in seconds, of one call in four: some of them give up before a server
#: has begun them.
HASTY = 0.5

#: What can happen to a server.
WAYS = ("is killed", "hangs", "restarts")

Progress = Callable[[str], None]
Disrupt = Callable[[], None]


@dataclass(frozen=True)
class Setup:
    """What to do, for how long, and to whom.

    :param url: transport URL
    :param directory: where the ledgers are kept
    :param duration: seconds
    :param servers: processes that serve
    :param clients: processes that send
    :param threads: of all clients together
    :param rate: messages per second of all together; None for as many as go
    :param mix: weights of calls, casts and fanouts
    :param timeout: of a call, in seconds
    :param pause: seconds between two disturbances, shortest and longest
    :param hang: seconds that a stopped server hangs, shortest and longest
    :param credit: messages that a server confirms before it begins them
    :param ways: how servers are disturbed, of `WAYS`
    :param engine: ways to disturb what carries the messages, by what they are
    :param seed: of what happens when
    :param report_every: seconds between two lines that say how it goes
    """

    url: str
    directory: Path
    duration: float = 3600.0
    servers: int = 4
    clients: int = 2
    threads: int = 50
    rate: float | None = 200.0
    mix: Mapping[str, float] = field(
        default_factory=lambda: {"call": 6.0, "cast": 3.0, "fanout": 1.0}
    )
    timeout: float = 20.0
    pause: tuple[float, float] = (6.0, 12.0)
    hang: tuple[float, float] = (1.0, 20.0)
    credit: int = 100
    ways: Sequence[str] = WAYS
    engine: Mapping[str, Disrupt] = field(default_factory=dict)
    seed: int = 0
    report_every: float = 60.0


@dataclass
class Outcome:
    """What a soak has found.

    :param kinds: by kind of message
    :param disturbances: how often each has happened
    :param errors: what clients were told, and how often
    :param broken: promises that were not kept, in words; the last ones of each client
    :param hung: clients that did not end
    """

    kinds: dict[str, Verdict]
    disturbances: dict[str, int]
    errors: dict[str, int]
    broken: list[str]
    hung: list[str]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not self.hung and all(item.kept for item in self.kinds.values())

    def to_json(self) -> dict[str, Any]:
        """The outcome for a JSON document."""
        return {**asdict(self), "kept": self.kept}


def run(setup: Setup, progress: Progress) -> Outcome:
    """Soak a transport.

    :param progress: takes a line for each disturbance and each minute
    :raises BenchError: if workers do not start, connect, stop or answer
    """
    soak = _Soak(setup, progress)
    assignments = [*soak.serving.values(), *soak.clients]
    try:
        with LocalWorkers() as local, Crew(assignments, local.start) as crew:
            return soak.run(crew)
    finally:
        buses.clean_up(assignments, progress)


class _Soak:
    def __init__(self, setup: Setup, progress: Progress) -> None:
        self._setup = setup
        self._tell = progress
        self._random = random.Random(setup.seed)
        self._clock = Clock()
        self._token = secrets.token_hex(4)
        self._incarnations = dict.fromkeys(
            [f"server-{number + 1}" for number in range(setup.servers)], 0
        )
        #: by name of the server: its process
        self.serving = {name: self._server(name) for name in self._incarnations}
        self.clients = self._clients()
        self._all = list(self.serving.values())
        self._ways = dict(
            zip(WAYS, (self._kill, self._hang, self._restart), strict=True)
        )
        self._happened: dict[str, int] = {}
        self._killings: list[Killing] = []
        # by process: fanouts begun before it listened, and those it has to have got
        self._since: dict[str, Numbers] = {}
        self._due: dict[str, Numbers] = {}
        # what had succeeded at a time, of the last seconds
        self._recent: deque[tuple[float, Encoded]] = deque()
        self._reported = 0.0

    def _server(self, name: str) -> Assignment:
        """The next process of a server."""
        self._incarnations[name] += 1
        return Assignment(
            **self._common(f"{name}.{self._incarnations[name]}"),
            serve=True,
            servers=[name],
            pool=POOL,
            work=WORK,
        )

    def _clients(self) -> list[Assignment]:
        setup = self._setup
        each, more = divmod(setup.threads, setup.clients)
        threads = [each + (index < more) for index in range(setup.clients)]
        return [
            Assignment(
                **self._common(f"client-{index + 1}"),
                mix=dict(setup.mix),
                sizes=[(200, 9.0), (20_000, 1.0)],
                rate=setup.rate,
                lanes=setup.threads,
                first_lane=sum(threads[:index]),
                threads=mine,
                timeout=setup.timeout,
                directed=list(self._incarnations),
                timeouts=[HASTY, *[setup.timeout] * 3],
            )
            for index, mine in enumerate(threads)
        ]

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "token": self._token,
            "rpc_url": self._setup.url,
            "notify_url": "",
            "ledger": str(self._setup.directory),
        }

    # -- the course --------------------------------------------------------

    def run(self, crew: Crew) -> Outcome:
        self._crew = crew
        clients = [item.name for item in self.clients]
        servers = [item.name for item in self._all]
        crew.gather([*servers, *clients], "awake", START_TIMEOUT, "started")
        for group in (servers, clients):
            crew.tell(group, "connect")
            crew.gather(group, "ready", START_TIMEOUT, "connected")
        timing = Timing(self._clock.now() + TICK, 0.0, self._setup.duration)
        self._timing = asdict(timing)
        crew.tell([*servers, *clients], "start", **self._timing)
        self._attend()
        while self._clock.now() < timing.end:
            self._wait(self._random.uniform(*self._setup.pause), timing.end)
            if self._clock.now() < timing.end:
                self._attend()
                self._disturb()
        hung = self._await_clients(clients)
        crew.tell([name for name in clients if name not in hung], "report")
        alive = [name for name in clients if name not in hung]
        reports = {
            name: Produced.read(event["measured"])
            for name, event in crew.gather(
                alive, "report", START_TIMEOUT, "reported"
            ).items()
        }
        errors: dict[str, int] = {}
        for report in reports.values():
            for what, count in report.errors.items():
                errors[what] = errors.get(what, 0) + count
        self._attend()
        for name in list(self.serving):
            self._leave(name)
            self._stop(name)
        books = self._books()
        executed = {
            kind: ledger.total(kind, books.received.values())[0] for kind in RPC_KINDS
        }
        broken = [
            f"{moment - timing.start:.1f} s after the start, {name}, {kind} {number}, "
            f"executed by {', '.join(executed_by(books, name, kind, number))}: {text}"
            for name, report in reports.items()
            for kind, number, moment, text in report.refusals
            if executed[kind].get(name, 0) >> number & 1
        ]
        verdicts = self._verdicts(books)
        return Outcome(verdicts, self._happened, errors, broken, hung)

    def _await_clients(self, names: list[str]) -> list[str]:
        deadline = time.monotonic() + self._setup.timeout + END_GRACE
        while (lacking := self._crew.lacking(names, "done")) and (
            time.monotonic() < deadline
        ):
            self._crew.listen(TICK)
            self._look()
        return lacking

    def _wait(self, seconds: float, end: float) -> None:
        """Look on, until some seconds have passed or the load ends."""
        until = min(self._clock.now() + seconds, end)
        while (left := until - self._clock.now()) > 0:
            self._crew.listen(min(left, TICK))
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if not self._recent or now - self._recent[-1][0] >= TICK:
            self._recent.append((now, self._now()))
        while len(self._recent) > 1 and now - self._recent[1][0] > BEGUN_AFTER:
            self._recent.popleft()
        if now - self._reported >= self._setup.report_every:
            if self._reported:
                self._tell(self._summary())
            self._reported = now

    def _before(self, seconds: float) -> Encoded:
        """What had succeeded so many seconds ago, or somewhat earlier."""
        since = time.monotonic() - seconds
        old = [taken for moment, taken in self._recent if moment <= since]
        return old[-1] if old else []

    # -- disturbances ------------------------------------------------------

    def _disturb(self) -> None:
        name = self._random.choice(list(self.serving))
        what = self._random.choice([*self._setup.ways, *self._setup.engine])
        self._happened[what] = self._happened.get(what, 0) + 1
        if what in self._setup.ways:
            self._tell(f"{name} {what}")
            self._leave(name)
            self._ways[what](name)
            return
        self._tell(what)
        for each in self.serving:
            self._leave(each)
        self._setup.engine[what]()

    def _kill(self, name: str) -> None:
        before = self._before(BEGUN_AFTER)
        gone = self.serving[name].name
        self._crew.kill(gone)
        # senders learn what was confirmed until then
        self._wait(LEARNT_AFTER, math.inf)
        lately = without(
            *(ledger.total("cast", [it])[0] for it in (self._now(), before))
        )
        turns = [0, 1 + list(self.serving).index(name)]
        period = 1 + len(self.serving)
        to_any, to_it = (every(lately, turn, period) for turn in turns)
        confirmed = {client: to_any[client] | to_it[client] for client in lately}
        self._killings.append(Killing(confirmed, self._setup.credit))
        self._crew.dismiss(gone)
        self._replace(name)

    def _hang(self, name: str) -> None:
        process = self.serving[name].name
        self._crew.pause(process)
        seconds = self._random.uniform(*self._setup.hang)
        self._wait(seconds, self._clock.now() + seconds)
        self._crew.resume(process)
        now = self._clock.now() - self._timing["start"]
        self._tell(f"{name} goes on, {now:.1f} s after the start")

    def _restart(self, name: str) -> None:
        self._stop(name)
        self._replace(name)

    def _stop(self, name: str) -> None:
        process = self.serving[name].name
        self._crew.tell([process], "stop")
        self._crew.gather([process], "stopped", STOP_TIMEOUT, "stopped")
        self._crew.dismiss(process)

    def _replace(self, name: str) -> None:
        """Start the next process of a server."""
        item = self.serving[name] = self._server(name)
        self._all.append(item)
        self._crew.hire(item)
        self._crew.tell([item.name], "connect")
        self._crew.tell([item.name], "start", **self._timing)
        self._crew.gather([item.name], "ready", START_TIMEOUT, "connected")

    # -- accounts ----------------------------------------------------------

    def _attend(self) -> None:
        """From now on, servers that were left out have to get each fanout."""
        begun = _fanouts(self._clients_ledger("begun"))
        for item in self.serving.values():
            self._since.setdefault(item.name, begun)

    def _leave(self, name: str) -> None:
        """A server has to have got the fanouts that returned some time ago."""
        process = self.serving[name].name
        since = self._since.pop(process, None)
        if since is not None:
            due = without(_fanouts(self._before(REACHED_AFTER)), since)
            known = self._due.get(process, {})
            self._due[process] = {
                producer: bits | known.get(producer, 0)
                for producer, bits in due.items()
            }

    def _now(self) -> Encoded:
        return self._clients_ledger("succeeded")

    def _clients_ledger(self, what: str) -> Encoded:
        return [row for item in self.clients for row in _read(item, what)]

    def _books(self) -> Books:
        # what clients have ticked off was ticked off by servers before
        succeeded, refused, begun = (
            self._clients_ledger(what) for what in ("succeeded", "refused", "begun")
        )
        received = {item.name: _read(item, "received") for item in self._all}
        return Books(begun, succeeded, refused, received)

    def _verdicts(self, books: Books) -> dict[str, Verdict]:
        return {
            kind: judge(kind, books, self._killings, self._due)
            for kind in RPC_KINDS
            if kind in self._setup.mix
        }

    def _summary(self) -> str:
        minutes = (self._clock.now() - self._timing["start"]) / 60
        parts = [
            f"{item.succeeded} of {item.begun} {kind}s ({item.refused} refused,"
            f" {item.unknown} open or unknown, {item.duplicated} twice,"
            f" {item.broken} refused and executed)"
            for kind, item in self._verdicts(self._books()).items()
        ]
        return f"{minutes:.1f} min, {sum(self._happened.values())} disturbances: " + (
            "; ".join(parts)
        )


def _fanouts(entries: Encoded) -> Numbers:
    return ledger.total("fanout", [entries])[0]


def _read(item: Assignment, what: str) -> Encoded:
    directory = item.ledger_dir(what)
    assert directory is not None
    return ledger.read(directory)
