# SPDX-License-Identifier: Apache-2.0
"""The two URLs: whether there are some, and drivers can use them."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_messaging import urls
from hybrid_messaging.service_configs import strays
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes


def parsed(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """What should be a transport URL is one."""
    for route in routes:
        if route.error:
            yield found("bad-url", route.error, "correct it", route.where)


def importable(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The service has the drivers of its transports."""
    for route in routes:
        if route.transport is None:
            continue
        name = route.transport.url.driver
        reason = routes.environment.transport.get(name, "it is not installed")
        if reason:
            yield found(
                "driver-not-importable",
                f"the service cannot import the driver for {name}://: {reason}",
                "install it into the service's environment: pip install "
                + route.transport.package,
                route.where,
            )


def fit(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The transports carry what they are for, and their drivers can use the URLs."""
    for route in routes:
        if route.transport is None:
            continue
        scheme, defect = route.transport.url.scheme, route.transport.defect
        if route.objection:
            yield found(
                "unfit-transport",
                f"{route.role} cannot use {scheme}://: {route.objection}",
                f"choose another transport for {route.role} with `configure`",
                route.where,
            )
        elif defect:
            yield found("unusable-url", defect, "change it", route.where)


def set_at_all(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """An option decides on each transport."""
    for route in routes:
        if not config.is_set(*route.option):
            yield found(
                "transport-not-set",
                f"no transport_url for {route.role}: the service uses the default, "
                f"{urls.shown(route.text)}",
                "set it with `configure`",
                config.documents[0].path,
            )


def apart(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """RPC and notifications go through different servers."""
    rpc, notify = routes.rpc, routes.notify
    if rpc is None or rpc.transport is None or notify.transport is None:
        return
    common = rpc.transport.servers & notify.transport.servers
    if common and not strays.is_on(config):
        yield found(
            "shared-backend",
            f"RPC and notifications share one server: {min(common)}",
            "give each a separate transport with `configure`",
            notify.where,
        )
