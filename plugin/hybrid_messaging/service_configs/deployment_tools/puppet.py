# SPDX-License-Identifier: Apache-2.0
"""Puppet's modules for OpenStack: a URL is a parameter of the service's class.

puppet-oslo refuses URLs of other drivers than RabbitMQ's (Oslo::TransportURL), and a
second declaration of the same option is an error. A collector may override the value
that the class has declared, though.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.rabbit import Rabbit
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
    "nova::default_transport_url and nova::notification_transport_url in Hiera, and "
    "those of each other service"
)
#: The classes of modules that are not called as their service.
_CLASSES = {"glance": "glance::notify::rabbitmq", "swift": "swift::proxy::ceilometer"}
_MODULES = (
    "aodh",
    "barbican",
    "ceilometer",
    "cinder",
    "cloudkitty",
    "designate",
    "glance",
    "heat",
    "ironic",
    "keystone",
    "magnum",
    "manila",
    "mistral",
    "neutron",
    "nova",
    "octavia",
    "swift",
    "tacker",
    "trove",
    "watcher",
)
#: The types of options, where they are not called as the module.
_TYPES = {
    "glance": ("glance_api_config",),
    "trove": ("trove_config", "trove_guestagent_config"),
}


def parts(transports: Transports) -> Iterator[Part]:
    """What goes into its files; see `deployment_tools`."""
    transports = settings.in_urls(transports)
    hiera: dict[str, str] = {}
    manifest: list[str] = []
    for module in _MODULES:
        cls = _CLASSES.get(module, module)
        for parameter, option, url in _wanted(module, transports):
            if module == "swift" or isinstance(servers.get(url), Rabbit):
                hiera[f"{cls}::{parameter}"] = str(url)
            else:
                for kind in _TYPES.get(module, (f"{module}_config",)):
                    manifest.append(_override(kind, option, url))
    if hiera:
        yield Part("data/common.yaml", yaml(hiera), ("Hiera data for all nodes.",))
    if manifest:
        yield Part(
            "manifests/hybrid_messaging.pp",
            "".join(manifest),
            (
                "Put this into a class that all nodes include.",
                "puppet-oslo accepts only rabbit:// URLs as parameters. These"
                " collectors override what the modules declare.",
            ),
        )


def _wanted(
    module: str, transports: Transports
) -> Iterator[tuple[str, str, urls.TransportURL]]:
    """Parameter, option and URL of what a module is to set."""
    if module == "swift":
        yield "default_transport_url", "filter:ceilometer/url", transports.notify
        return
    if module not in WITHOUT_RPC:
        rpc = rpc_of(module, transports)
        yield "default_transport_url", "DEFAULT/transport_url", rpc
    option = f"{NOTIFICATIONS}/transport_url"
    yield "notification_transport_url", option, transports.notify


def _override(kind: str, option: str, url: urls.TransportURL) -> str:
    return f"{kind.capitalize()} <| title == '{option}' |> {{ value => '{url}' }}\n"
