# SPDX-License-Identifier: Apache-2.0
"""kolla-ansible: the URLs are variables, and so are their parts.

`rpc_transport_url` and `notify_transport_url` are what its templates write. By default
they are made of `om_rpc_*` and `om_notify_*` and the hosts of an inventory group, which
also decide on containers and their health checks. Compute nodes and cells have other
URLs (`nova_cell_*`), whose notifications would follow RPC.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from urllib import parse as urlparse

from oslo_utils import strutils

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs import settings
from hybrid_messaging.service_configs.deployment_tools.parts import (
    Part,
    ini,
    rpc_of,
    yaml,
)
from hybrid_messaging.service_configs.transports import Transports

VARIABLES = (
    "rpc_transport_url, notify_transport_url, nova_cell_rpc_transport_url and "
    "nova_cell_notify_transport_url in /etc/kolla/globals.yml"
)
#: Containers that are found unhealthy if they do not connect to the port of RPC, and
#: their programs: of services that have nothing but notifications.
_LISTENING = {
    "aodh_listener": "aodh-listener",
    "aodh_notifier": "aodh-notifier",
    "ceilometer_central": "ceilometer-polling",
    "ceilometer_compute": "ceilometer-polling",
    "ceilometer_ipmi": "ceilometer-polling",
    "ceilometer_notification": "ceilometer-agent-notification",
}
#: The same of services that have notifications on the transport of RPC.
_SHARING = {
    "barbican": {
        "barbican_keystone_listener": "barbican-keystone-listener",
        "barbican_worker": "barbican-worker",
    },
    "magnum": {"magnum_conductor": "magnum-conductor"},
    "mistral": {
        "mistral_engine": "mistral-server",
        "mistral_event_engine": "mistral-server",
        "mistral_executor": "mistral-server",
    },
}


def parts(transports: Transports) -> Iterator[Part]:
    """What goes into its files; see `deployment_tools`."""
    transports = settings.in_urls(transports)
    rpc, notify = transports.rpc, transports.notify
    values: dict[str, Any] = {
        "om_rpc_transport": rpc.scheme,
        "om_rpc_port": str(rpc.hosts[0].port),
        "om_rpc_vhost": _vhost(rpc),
        "rpc_transport_url": str(rpc),
        "nova_cell_rpc_transport_url": _of_cells(rpc),
        "om_notify_transport": notify.scheme,
        "om_notify_port": str(notify.hosts[0].port),
        "notify_transport_url": str(notify),
        "nova_cell_notify_transport_url": str(notify),
    }
    rabbits = [url for url in (rpc, notify) if isinstance(servers.get(url), Rabbit)]
    if rabbits:
        values["om_enable_rabbitmq_tls"] = all(map(_is_encrypted, rabbits))
    sharing = [name for name in _SHARING if rpc_of(name, transports) is notify]
    if values["om_rpc_port"] != values["om_notify_port"]:
        for containers in (_LISTENING, *(_SHARING[name] for name in sharing)):
            values |= dict(_health_checks(containers))
    notes = tuple(
        f"Health checks look for a connection to port {url.hosts[0].port} of"
        f" {url.scheme}://."
        for url in (rpc, notify)
        if len({host.port for host in url.hosts}) > 1
    )
    yield Part("/etc/kolla/globals.d/hybrid-messaging.yml", yaml(values), notes)
    for name in sharing:
        yield Part(
            f"/etc/kolla/config/{name}.conf",
            ini({"DEFAULT": {"transport_url": str(notify)}}),
            (
                "This service uses one transport for RPC and notifications, and its"
                " RPC stays there.",
            ),
        )


def _health_checks(containers: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Checks that look for connections to the port of notifications."""
    for container, program in containers.items():
        test = f"healthcheck_port {program} {{{{ om_notify_port }}}}"
        yield f"{container}_healthcheck_test", ["CMD-SHELL", test]


def _vhost(url: urls.TransportURL) -> str:
    """As it stands in a URL; a user of RabbitMQ gets rights in one that has a name."""
    default = "/" if isinstance(servers.get(url), Rabbit) else ""
    return urlparse.quote(url.vhost or default, safe="/")


def _of_cells(url: urls.TransportURL) -> str:
    """The URL with the virtual host of each cell."""
    bare = str(dataclasses.replace(url, vhost=None))
    head, mark, query = bare.partition("?")
    return f"{head}{{{{ nova_cell_rpc_vhost }}}}{mark}{query}"


def _is_encrypted(url: urls.TransportURL) -> bool:
    return strutils.bool_from_string(url.query.get("ssl", ""))
