# SPDX-License-Identifier: Apache-2.0
"""openstack-ansible: its templates make the URLs, of variables of each service.

A template writes, for each of the servers, TRANSPORT://USERID:PASSWORD@HOST:PORT, then
the virtual host, then ?ssl=0, or ?ssl=1 with the version of TLS and the authority's
file. So all servers have one user and one port, nothing is encoded, and there is no
place for other options. What the templates cannot express goes into the overrides of
each service's file, which are written last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib import parse as urlparse

from oslo_utils import strutils

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.rabbit import QUEUES, Rabbit
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
    "oslomsg_rpc_* and oslomsg_notify_* in a file user_*.yml of /etc/openstack_deploy, "
    "and NOVA_oslomsg_rpc_userid, …_password and …_vhost for each service"
)
#: What overrides each service's file.
_OVERRIDES = {
    "aodh": "aodh_aodh_conf_overrides",
    "barbican": "barbican_config_overrides",
    "blazar": "blazar_blazar_conf_overrides",
    "ceilometer": "ceilometer_ceilometer_conf_overrides",
    "cinder": "cinder_cinder_conf_overrides",
    "cloudkitty": "cloudkitty_cloudkitty_conf_overrides",
    "designate": "designate_designate_conf_overrides",
    "glance": "glance_glance_api_conf_overrides",
    "heat": "heat_heat_conf_overrides",
    "ironic": "ironic_ironic_conf_overrides",
    "keystone": "keystone_keystone_conf_overrides",
    "magnum": "magnum_config_overrides",
    "manila": "manila_manila_conf_overrides",
    "masakari": "masakari_masakari_conf_overrides",
    "mistral": "mistral_mistral_conf_overrides",
    "neutron": "neutron_neutron_conf_overrides",
    "nova": "nova_nova_conf_overrides",
    "octavia": "octavia_octavia_conf_overrides",
    "swift": "swift_proxy_server_conf_overrides",
    "tacker": "tacker_tacker_conf_overrides",
    "trove": "trove_config_overrides",
    "zun": "zun_zun_conf_overrides",
}
#: Where a file has the URL of notifications, if not where all others have it.
_NOTIFY = {"swift": ("filter:ceilometer", "url")}
#: The options of TLS that templates append, and the drivers that take them.
_SSL = frozenset({"ssl", "ssl_ca_file", "ssl_version"})
_TAKE_SSL = ("amqp", "kombu", "rabbit")


def parts(transports: Transports) -> Iterator[Part]:
    """What goes into its files; see `deployment_tools`."""
    values: dict[str, Any] = {}
    if isinstance(servers.get(transports.notify), Rabbit):
        # what keeps notifications is an option of the file, by default this one
        quorum = QUEUES["durable"] not in transports.notify.query
        values["oslomsg_rabbit_quorum_queues"] = quorum
    else:
        transports = settings.in_urls(transports)
    rpc, notify = transports.rpc, transports.notify
    values |= _servers("oslomsg_rpc", rpc) | _servers("oslomsg_notify", notify)
    for service in _OVERRIDES:
        own = rpc_of(service, transports)
        if own is not rpc:
            values |= _servers(f"{service}_oslomsg_rpc", own)
        if service not in WITHOUT_RPC:
            values |= _user(f"{service}_oslomsg_rpc", own)
        values |= _user(f"{service}_oslomsg_notify", notify)
    for service, name in _OVERRIDES.items():
        values |= {name: found} if (found := _overrides(service, transports)) else {}
    yield Part(
        "/etc/openstack_deploy/user_zz_hybrid_messaging.yml",
        yaml(values),
        (
            "If several user_*.yml files set a variable, the last file by name wins:"
            " user_secrets.yml has passwords of the same names.",
            *_explained("RPC", rpc),
            *_explained("notifications", notify),
            "Overrides replace those of another file: merge them.",
            "Guests of Trove have separate variables: trove_guest_oslomsg_rpc_*.",
        ),
    )


def _servers(prefix: str, url: urls.TransportURL) -> dict[str, Any]:
    query = url.query
    encrypted = "ssl_ca_file" in query or strutils.bool_from_string(query.get("ssl"))
    values = {
        "transport": url.scheme,
        "servers": ",".join(_name(host) for host in url.hosts),
        "port": str(url.hosts[0].port),
        "use_ssl": encrypted,
    }
    for option in ("ssl_ca_file", "ssl_version"):
        if option in query:
            values[option] = urlparse.quote(query[option], safe="/")
    return {f"{prefix}_{key}": value for key, value in values.items()}


def _user(prefix: str, url: urls.TransportURL) -> dict[str, str]:
    """User and virtual host as they stand in a URL."""
    credentials, at, _ = str(url).partition("://")[2].partition("@")
    userid, _, password = credentials.partition(":") if at else ("", "", "")
    default = "/" if isinstance(servers.get(url), Rabbit) else ""
    return {
        f"{prefix}_userid": userid,
        f"{prefix}_password": password,
        f"{prefix}_vhost": urlparse.quote(url.vhost or default, safe="/"),
    }


def _name(host: urls.Host) -> str:
    return f"[{host.host}]" if ":" in host.host else host.host


def _overrides(service: str, transports: Transports) -> dict[str, dict[str, str]]:
    """What the templates cannot express of a service's file."""
    rpc, notify = rpc_of(service, transports), str(transports.notify)
    if service == "ceilometer":
        # its template takes the hosts of an inventory group
        return {
            "DEFAULT": {"transport_url": notify},
            "notification": {"messaging_urls": notify},
        }
    found: dict[str, dict[str, str]] = {}
    if service not in WITHOUT_RPC and any(_objections(rpc)):
        found["DEFAULT"] = {"transport_url": str(rpc)}
    if any(_objections(transports.notify)):
        section, key = _NOTIFY.get(service, (NOTIFICATIONS, "transport_url"))
        found[section] = {key: notify}
    return found


def _explained(what: str, url: urls.TransportURL) -> Iterator[str]:
    for objection in _objections(url):
        yield f"The overrides contain the whole URL of {what}, because {objection}."


def _objections(url: urls.TransportURL) -> Iterator[str]:
    """Why templates cannot express a URL."""
    if url.driver not in _TAKE_SSL:
        yield f"the templates append ?ssl=, which {url.scheme}:// does not accept"
    # a quorum queue is an option of the file
    further = set(url.query) - _SSL - {QUEUES["quorum"]}
    if further:
        yield f"the templates have no variable for {', '.join(sorted(further))}"
    if len({(host.username, host.password, host.port) for host in url.hosts}) > 1:
        yield "the templates have one user and one port for all hosts"
    user = url.hosts[0]
    if isinstance(servers.get(url), Rabbit) and any(
        urlparse.quote(text or "", safe="/") != (text or "")
        for text in (user.username, user.password, url.vhost)
    ):
        yield (
            "the templates do not encode user, password and virtual host for the URL"
        )
