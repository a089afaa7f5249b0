# SPDX-License-Identifier: Apache-2.0
"""What goes elsewhere than the two transports of a service, or could not be checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs.catalogue import CELLS
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import Layer, default_directories
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig, load
from hybrid_messaging.service_configs.routes import Routes
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.strays import Bus, buses, further, is_on, named

RPC = ("DEFAULT", "transport_url")


def kept_together(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Middleware and pipelines that publish to a URL of their own."""
    usual = buses(config.notify_url)
    for item in further(config.documents):
        theirs = buses(item.text)
        if not theirs & usual:
            yield found(
                "notifications-elsewhere",
                f"{item.what} publishes to {named(theirs)}, but other notifications go"
                f" to {named(usual)}",
                "remove its URL, so that it uses the service's, or make sure that a"
                " consumer listens there",
                item.where,
            )


def not_overridden(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Files that have programs of the service use other transports."""
    main = Path(config.documents[0].path)
    for layer in config.layers:
        files = [main, *layer.files]
        directories = [*default_directories(files), *layer.directories]
        try:
            other = load(
                files, [path for path in directories if path.is_dir()], config.service
            )
        except ServiceConfigError as error:
            if layer.certain:
                where = str(error).removesuffix(f": {error.reason}")
                yield found(
                    "unreadable",
                    f"programs of the service cannot read it: {error.reason}",
                    "correct it, then check again",
                    where,
                )
            continue
        yield from _differences(config, other, layer)


def _differences(
    config: ServiceConfig, other: ServiceConfig, layer: Layer
) -> Iterator[Problem]:
    main = config.documents[0].path
    # programs of several cells differ in their virtual hosts
    within = CELLS in config.service.files
    pairs = []
    if config.service.rpc:
        pairs.append(("RPC", RPC, config.rpc_url, other.rpc_url, within))
    section = NOTIFICATIONS if other.conf[NOTIFICATIONS].transport_url else RPC[0]
    option = (section, RPC[1])
    pairs.append(("notifications", option, config.notify_url, other.notify_url, False))
    for role, option, text, theirs, cells in pairs:
        here, there = buses(text), buses(theirs)
        if here == there or (cells and {x[:3] for x in here} == {x[:3] for x in there}):
            continue
        go = "goes" if role == "RPC" else "go"
        severity, doubt = Severity.ERROR, ""
        if not layer.certain:
            severity = Severity.WARNING
            doubt = "; it is unknown whether any do"
        elif _for_guests(config, layer) and _kinds(here) == _kinds(there):
            severity = Severity.WARNING
            doubt = "; this may be the address of the same server for guests"
        yield found(
            "overridden",
            f"{role} of programs that read this file as well as {main} {go} to"
            f" {named(there)} instead of {named(here)}{doubt}",
            "configure this file as well, or remove the option from it",
            other.where(*option),
            severity,
        )


def _for_guests(config: ServiceConfig, layer: Layer) -> bool:
    return any(path.name in config.service.guests for path in layer.files)


def _kinds(there: frozenset[Bus]) -> set[tuple[str, str]]:
    return {(bus.engine, bus.vhost) for bus in there}


def not_over_rpc(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Notifications that a service sends or takes with its RPC transport."""
    part = config.service.over_rpc
    here, there = buses(config.rpc_url), buses(config.notify_url)
    if part is None or here & there or not is_on(config):
        return
    message = (
        f"listens on its RPC transport, {named(here)}, so it receives nothing that"
        f" goes to {named(there)}"
        if part.listens
        else (
            f"publishes on its RPC transport, {named(here)}, but consumers listen on"
            f" {named(there)}"
        )
    )
    yield found(
        "notifications-over-rpc",
        f"{part.what} {message}",
        f"set [DEFAULT] transport_url of {config.service.name} to the transport of"
        " notifications; no other service calls it",
        config.where(*RPC),
    )


def unchanged(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The agent of networking-baremetal changes the URL that it has from Neutron.

    It counts amqp:// as RabbitMQ's, to which it adds `amqp_auto_delete=true`
    (`_get_notification_transport_url`).
    """
    main = Path(config.documents[0].path)
    if config.service.name != "neutron":
        return
    for pattern in ("ironic_neutron_agent.ini", "plugins/*/ironic_neutron_agent.ini"):
        for path in sorted(main.parent.glob(pattern)):
            try:
                agent = load([main, path], service=config.service)
            except ServiceConfigError:
                continue  # not_overridden() has told why
            options = agent.conf[Rabbit.group]
            if (
                agent.rpc_url.startswith("amqp:")
                and not options.amqp_auto_delete
                and not options.rabbit_quorum_queue
            ):
                yield found(
                    "agent-changes-url",
                    "ironic-neutron-agent adds amqp_auto_delete=true to the URL of"
                    " RPC, which the amqp:// driver refuses, so the agent ends",
                    f"set [{Rabbit.group}] amqp_auto_delete = true in {path}",
                    str(path),
                )


def checked(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Values that only the service can work out."""
    for section, key, name in config.unknown:
        yield found(
            "not-checked",
            f"{key} refers to ${name}, whose value only the service knows, so it was "
            "not checked",
            f"set {name} in the service's file to have it checked",
            config.where(section, key),
        )


def unquoted(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Quotes around each item of a list: oslo.config removes the outer ones alone."""
    topics = config.conf[NOTIFICATIONS].topics
    odd = [topic for topic in topics if re.search("['\"]", topic)]
    if odd:
        yield found(
            "quoted-list",
            f"topics contain quotation marks: {', '.join(odd)}",
            "write the topics without quotation marks",
            config.where(NOTIFICATIONS, "topics"),
        )
