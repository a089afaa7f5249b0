# SPDX-License-Identifier: Apache-2.0
"""The servers of both transports: whether they let the service in, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes


def encrypted(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Servers that are used with TLS cannot be used without it."""
    for route in routes:
        known = route.transport
        for host, answer in route.answers:
            assert known is not None and routes.servers is not None
            if isinstance(answer, str) and routes.servers.takes_plain(known, host):
                yield found(
                    "plain-accepted",
                    f"{known.shown(host)} is used with TLS, but also accepts"
                    " connections without",
                    "close its listener without TLS, or have it require TLS",
                    route.where,
                )


def sound(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """What servers tell of their state is as it should be."""
    said: set[str] = set()
    for route in routes:
        for problem in route.insight.problems:
            if problem.message not in said:
                yield found(*problem, route.where)
            said.add(problem.message)


def reached(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The service can use all of them."""
    for route in routes:
        for error in route.failures:
            # the others of several servers stand in for one that is down
            spare = error.code == "unreachable" and not all(
                isinstance(answer, Exception) for _, answer in route.answers
            )
            severity = Severity.WARNING if spare else None
            yield found(error.code, str(error), error.cure, route.where, severity)
