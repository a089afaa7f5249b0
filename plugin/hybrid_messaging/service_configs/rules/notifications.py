# SPDX-License-Identifier: Apache-2.0
"""Notifications: whether they are sent, wait for their consumer, and are consumed."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_messaging.servers.amqp import Amqp
from hybrid_messaging.service_configs import strays
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes
from hybrid_messaging.service_configs.settings import DRIVER, NOTIFICATIONS

#: The priority that notifications have as a rule, and the name of their queues ends
#: with.
PRIORITY = "info"

#: Notification drivers that put nothing on a transport.
_SILENT = {"log": "to the service's log", "test": "to a list in memory", "noop": ""}
#: Those that do, of oslo.messaging's own.
_PUBLISHING = frozenset({"messaging", "messagingv2", "routing"})


def queues(config: ServiceConfig) -> list[str]:
    """The queues, or topics of Kafka, that notifications of a service wait in."""
    return [f"{topic}.{PRIORITY}" for topic in config.conf[NOTIFICATIONS].topics]


def published(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Notification drivers that the service has put notifications on the transport."""
    names = config.conf[NOTIFICATIONS].driver
    where = config.where(NOTIFICATIONS, "driver")
    place = config.service.place(NOTIFICATIONS, "driver")
    cure = f"set [{place.section}] {place.key} = {DRIVER}"
    for name in dict.fromkeys(filter(str.strip, names)):
        reason = routes.environment.notification.get(
            name, "no such driver is installed"
        )
        if reason:
            yield found(
                "notification-driver-unknown",
                f"the service cannot import notification driver {name}: {reason}",
                cure,
                where,
            )
    if config.service.notifies and not set(names) & _PUBLISHING:
        used = [_SILENT[name] for name in names if _SILENT.get(name)]
        yield found(
            "no-notification-driver",
            "the service publishes no notifications: "
            + (f"they go {' and '.join(used)}" if used else "it has no driver"),
            cure,
            where,
        )


def stored(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Notifications have to wait somewhere for their consumer."""
    notify = routes.notify
    if not isinstance(notify.transport, Amqp):
        return
    cure = "send notifications to a broker: `configure --notify-url rabbit://…`"
    if notify.delivery == "direct":
        yield found(
            "notifications-not-stored",
            f"notifications go through {notify.engine}, which stores none: they cannot"
            " be sent unless a consumer is listening",
            cure,
            notify.where,
        )
    elif notify.delivery == "unknown":
        yield found(
            "notifications-maybe-not-stored",
            "notifications go over amqp://, and without a connection it is unknown"
            " whether a broker or a router, which stores nothing, answers",
            f"check without --no-connect, or {cure}",
            notify.where,
        )


def consumed(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Ceilometer's agent listens where it is told to, else where it publishes."""
    option = ("notification", "messaging_urls")
    if config.service.name != "ceilometer" or routes.notify.transport is None:
        return
    if not config.is_set(*option):
        return
    listened = frozenset[strays.Bus]()
    for url in config.own_option(*option, multi=True) or ():
        listened |= strays.buses(url)
    published = strays.buses(routes.notify.text)
    if not published & listened:
        yield found(
            "consumer-elsewhere",
            f"the notification agent listens on {strays.named(listened)}, but its"
            f" notifications go to {strays.named(published)}",
            "remove [notification] messaging_urls, or add the notification transport "
            "to it",
            config.where(*option),
        )
