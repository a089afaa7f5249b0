# SPDX-License-Identifier: Apache-2.0
"""What a service's file has to say for the service to use two transports."""

from __future__ import annotations

import dataclasses

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.kafka import AUTHENTICATED, SECURITY, Kafka
from hybrid_messaging.servers.rabbit import QUEUES, Rabbit
from hybrid_messaging.service_configs.catalogue import Service
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.transports import Transports

NOTIFICATIONS = "oslo_messaging_notifications"
DRIVER = "messagingv2"

DURABLE = QUEUES["durable"]


def apply(
    document: Document,
    service: Service,
    rpc: urls.TransportURL,
    notify: urls.TransportURL,
) -> urls.TransportURL:
    """Set the options that send RPC and notifications their ways, and no other.

    :param service: whose file it is: without RPC, its RPC transport is left alone
    :returns: the notification transport as it stands in the file
    """
    if service.places:
        # no option of a driver reaches it but those of the URL
        notify = in_urls(Transports(rpc, notify)).notify
        place = service.place(NOTIFICATIONS, "transport_url")
        document.set(place.section, place.key, str(notify))
        return notify
    # it takes as long to import as all the rest of this program's commands
    from oslo_utils import strutils

    durable = not _is_rabbit(notify) or any(
        strutils.bool_from_string(document.value(Rabbit.group, option))
        for option in QUEUES.values()
    )
    asked = any(option in notify.query for option in QUEUES.values())
    # The group of options is that of every rabbit:// URL. Where RPC goes to
    # another RabbitMQ, its queues, which exist without being durable, must stay
    # as they are: there the option is one of the notification URL alone.
    alone = service.rpc and _is_rabbit(rpc) and not _share_server(rpc, notify)
    if not durable and alone and not asked:
        notify = _asking_for_durable(notify)
    if service.rpc:
        document.set("DEFAULT", "transport_url", str(rpc))
    document.set(NOTIFICATIONS, "transport_url", str(notify))
    drivers = document.values(NOTIFICATIONS, "driver")
    if all(driver.strip() in ("", "noop") for driver in drivers):
        document.set(NOTIFICATIONS, "driver", DRIVER)
    if not durable and not alone:
        document.set(Rabbit.group, DURABLE, "true")
    if _lacks_security(notify) and not document.value(Kafka.group, SECURITY):
        document.set(Kafka.group, SECURITY, AUTHENTICATED)
    return notify


def in_urls(transports: Transports) -> Transports:
    """Transports whose URLs alone say what `apply` sets beside them.

    For files of which only the URLs are ours. Notifications in RabbitMQ are
    durable; whoever shares a queue or an exchange has to declare it alike, so RPC
    through the same RabbitMQ is durable as well. User and password are sent to
    Kafka.
    """
    rpc, notify = transports.rpc, transports.notify
    if _lacks_security(notify):
        return Transports(rpc, _with_query(notify, SECURITY, AUTHENTICATED))
    if not _is_rabbit(notify):
        return transports
    if _is_rabbit(rpc) and _share_server(rpc, notify):
        rpc = _asking_for_durable(rpc)
    return Transports(rpc, _asking_for_durable(notify))


def _asking_for_durable(url: urls.TransportURL) -> urls.TransportURL:
    return _with_query(url, DURABLE, "true")


def _lacks_security(url: urls.TransportURL) -> bool:
    """Whether a URL of Kafka has a user, and does not say how to send it."""
    known = servers.get(url)
    return isinstance(known, Kafka) and bool(known.user) and not url.query.get(SECURITY)


def _is_rabbit(url: urls.TransportURL) -> bool:
    return isinstance(servers.get(url), Rabbit)


def _share_server(one: urls.TransportURL, other: urls.TransportURL) -> bool:
    return bool(servers.get(one).servers & servers.get(other).servers)


def _with_query(url: urls.TransportURL, name: str, value: str) -> urls.TransportURL:
    return dataclasses.replace(url, query={**url.query, name: value})
