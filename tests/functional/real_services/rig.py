# SPDX-License-Identifier: Apache-2.0
"""The rig: a bus, the services on it, and what can be learned from them."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import environment as environments
from . import evidence
from .bus import Bus
from .deployment import Deployment, free_ports
from .evidence import Notification
from .processes import Processes
from .rest import ANSWERS, RestError
from .waiting import NotYet, wait_for
from .workload import Workload

START_TIMEOUT = 240.0
SETTLE_TIMEOUT = 180.0
#: How often users ask, and seconds in between, while servers restart: these are
#: away for about seven seconds.
WAVES = 6
WAVE_PAUSE = 1.0
COLLECTOR = "ceilometer-agent-notification"


class Rig:
    """The running services.

    :param bus: what carries their messages
    :param deployment: their files
    :param processes: their processes
    :param report: takes lines that tell of progress
    """

    def __init__(
        self,
        bus: Bus,
        deployment: Deployment,
        processes: Processes,
        report: environments.Report,
    ) -> None:
        self.bus = bus
        self.processes = processes
        self.deployment = deployment
        self.workloads = deployment.workloads()
        self._logs = [processes.log(c.name) for c in deployment.commands()]
        self._logs.append(deployment.setup_log)
        self._report = report

    def wait_until_ready(self) -> None:
        """Wait until all APIs reach their servers by RPC.

        :raises TimeoutError: if they do not
        :raises RuntimeError: if a service has ended
        """
        for workload in self.workloads:

            def probe(workload: Workload = workload) -> None:
                self.processes.check()
                workload.probe()

            wait_for(f"{workload.title} is ready", probe, START_TIMEOUT)
            self._report(f"{workload.title} answers at {workload.rest.url}")

    def check(self) -> None:
        """Let hybrid-messaging judge the configs that the services have read."""
        deployment = self.deployment
        python = deployment.environment.script("python")
        self.bus.check(deployment.configs, python, deployment.checkout)

    def exercise(self) -> None:
        """Drive all APIs through their workloads, at the same time."""
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(each.exercise) for each in self.workloads]:
                done.result()
        for workload in self.workloads:
            self._report(f"{workload.title}: {workload.done}")
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(ANSWERS.items()))
        self._report(f"HTTP: {answers}")

    def restart_under_requests(self) -> None:
        """Restart lone servers while users go on asking for what they serve.

        :raises RestError: if a request has failed
        :raises AssertionError: if a request has been granted and then failed
        :raises RuntimeError: if a service has ended
        """
        servers, users = self.deployment.RESTARTED, len(self.workloads) * WAVES
        with ThreadPoolExecutor(len(servers) + users) as pool:
            pending = [pool.submit(self.processes.restart, name) for name in servers]
            for _ in range(WAVES):
                pending += [pool.submit(each.ask) for each in self.workloads]
                time.sleep(WAVE_PAUSE)
            for done in pending:
                try:
                    done.result()
                except RestError:
                    self.processes.check()
                    raise
        self._report(f"{', '.join(servers)} restarted, {users} users served")

    @contextlib.contextmanager
    def without_collector(self) -> Iterator[None]:
        """Stop ceilometer, so that nobody takes notifications; start it again."""
        self.processes.stop(COLLECTOR)
        yield
        self.processes.start(COLLECTOR)

    def published(self) -> Counter[Notification]:
        """Return what the services say they have notified."""
        return evidence.published(self._logs)

    def stored(self) -> Counter[Notification]:
        """Return what ceilometer has stored."""
        return evidence.stored(self.deployment.events)

    def wait_until_stored(self, passes: int) -> None:
        """Wait until ceilometer has stored what the services have notified.

        :param passes: how often the workloads have been gone through
        :raises TimeoutError: names the event types that differ
        """
        once = self.deployment.NOTIFICATIONS
        expected = {kind: n * passes for kind, n in once.items()}

        def same() -> None:
            published, stored = self.published(), self.stored()
            if published != stored:
                lost, extra = kinds(published - stored), kinds(stored - published)
                raise NotYet(f"not stored: {lost}; stored, not published: {extra}")
            found = kinds(stored)
            if any(found[kind] < count for kind, count in expected.items()):
                raise NotYet(f"stored: {found}; expected: {expected}")

        wait_for("all notifications stored", same, SETTLE_TIMEOUT)
        self._report(f"{self.stored().total()} notifications published, all stored")

    def requests(self) -> dict[str, Counter[str]]:
        """Return the RPC methods that each server has been asked for."""
        return {
            n: evidence.requests(self.processes.log(n)) for n in self.deployment.SERVERS
        }

    def wait_until_matched(self) -> None:
        """Wait until the matchmaker knows every server; it counts no requests.

        :raises TimeoutError: names those that it does not know
        """

        def known() -> None:
            topics = self.bus.rpc_topics()
            missing = {
                name
                for name, topic in self.deployment.SERVERS.items()
                if not any(topic in found for found in topics)
            }
            if missing:
                raise NotYet(f"{missing}; it knows {topics}")

        wait_for("the matchmaker knows all servers", known, SETTLE_TIMEOUT)
        self._report("the matchmaker knows all servers")

    def wait_until_accounted(self) -> int:
        """Wait until the router has delivered what the servers have taken.

        :return: the number of requests
        :raises TimeoutError: with both accounts if they differ
        """

        def same() -> int:
            taken = sum(asked.total() for asked in self.requests().values())
            routed = self.bus.rpc_deliveries().total()
            if taken != routed:
                raise NotYet(f"taken by servers: {taken}; by the router: {routed}")
            return taken

        found = wait_for("all RPC through the router", same, SETTLE_TIMEOUT)
        self._report(f"{found} RPC requests, all through the router")
        return found

    def errors(self) -> list[str]:
        """Return the lines in which a service complains about its messaging."""
        return evidence.errors(self._logs)

    def wait_until_carried(self) -> None:
        """Wait until what carries RPC tells that it does.

        :raises TimeoutError: if it does not
        """
        PROVEN[self.bus.kind("rpc")](self)


#: By engine, how it shows that RPC goes its way.
PROVEN: dict[str, Callable[[Rig], object]] = {
    "router": Rig.wait_until_accounted,
    "redis": Rig.wait_until_matched,
}


def kinds(notifications: Counter[Notification]) -> Counter[str]:
    """Return how many notifications there are of each event type."""
    return Counter(kind for _, kind in notifications.elements())


@contextlib.contextmanager
def running(
    kind: type[Deployment],
    mode: str,
    threading: str,
    directory: Path,
    report: environments.Report,
) -> Iterator[Rig]:
    """Run everything, from the environment to services that are ready.

    :param kind: which services
    :param mode: of hybrid-messaging's mode table
    :param threading: one of :data:`~.deployment.THREADING`
    :param directory: empty; takes all files but the environment
    :param report: takes lines that tell of progress
    """
    began = time.monotonic()

    def tell(line: str) -> None:
        report(f"[{time.monotonic() - began:5.1f} s] {line}")

    environment = environments.ensure(environments.default_cache(), tell, kind.PINS)
    with contextlib.ExitStack() as stack:
        bus = Bus(mode, directory / "bus", tell)
        # together: one waits, the other computes
        with ThreadPoolExecutor() as pool:
            checkout = directory / "hybrid-messaging"
            installing = pool.submit(
                environments.install_checkout, environment, checkout
            )
            stack.callback(bus.down)
            bus.up()
            installing.result()
        ports = free_ports(kind.APIS)
        deployment = kind(environment, checkout, directory, threading, ports)
        deployment.write(bus.single_url)
        tell("configs and databases are written")
        bus.configure(deployment.configs)
        deployment.configured()
        processes = Processes(
            deployment.commands(), deployment.variables, deployment.logs
        )
        stack.callback(processes.stop)
        rig = Rig(bus, deployment, processes, tell)
        try:
            tell(
                f"starting the services, in {threading} threads where there is a choice"
            )
            processes.start()
            rig.wait_until_ready()
            deployment.ready()
            ANSWERS.clear()
            for workload in rig.workloads:
                workload.prepare()
            yield rig
        except Exception:
            report(processes.tails())
            raise
        tell("stopping the services")
    tell("everything is stopped")
