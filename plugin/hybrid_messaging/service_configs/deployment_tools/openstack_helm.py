# SPDX-License-Identifier: Apache-2.0
"""openstack-helm: any option of a service's file is a value of its chart.

Charts make a URL of `endpoints.oslo_messaging` where the value is empty. They ignore
values of other charts, so that one file serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hybrid_messaging.service_configs import settings
from hybrid_messaging.service_configs.deployment_tools.parts import (
    WITHOUT_RPC,
    Part,
    rpc_of,
    yaml,
)
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.transports import Transports

VARIABLES = (
    "conf.NOVA.DEFAULT.transport_url and "
    "conf.NOVA.oslo_messaging_notifications.transport_url in the values of each chart"
)
_CHARTS = (
    "aodh",
    "barbican",
    "blazar",
    "ceilometer",
    "cinder",
    "cloudkitty",
    "cyborg",
    "designate",
    "glance",
    "heat",
    "ironic",
    "keystone",
    "magnum",
    "manila",
    "masakari",
    "mistral",
    "neutron",
    "nova",
    "octavia",
    "tacker",
    "trove",
    "watcher",
)


def parts(transports: Transports) -> Iterator[Part]:
    """What goes into its files; see `deployment_tools`."""
    transports = settings.in_urls(transports)
    notify = str(transports.notify)
    conf: dict[str, dict[str, Any]] = {}
    for chart in _CHARTS:
        conf[chart] = {}
        if chart not in WITHOUT_RPC:
            rpc = str(rpc_of(chart, transports))
            conf[chart]["DEFAULT"] = {"transport_url": rpc}
        conf[chart][NOTIFICATIONS] = {"transport_url": notify}
    # the chart has one for each of several virtual hosts
    listening = {"type": "multistring", "values": [notify]}
    conf["ceilometer"]["notification"] = {"messaging_urls": listening}
    yield Part(
        "hybrid-messaging.yaml",
        yaml({"conf": conf}),
        ("Pass it to each chart, as the last --values.",),
    )
