# SPDX-License-Identifier: Apache-2.0
"""The OpenStack services that we know, as their own code has them.

Exchanges are those of `set_transport_defaults`, programs those of the entry points,
and what a service does with a transport is what it does with the results of
`get_rpc_transport` and `get_notification_transport`. `tools/compare_catalogue.py`
compares this with the code of releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Place(NamedTuple):
    """Where a file has what others have in an option of oslo.messaging.

    `default` is the value of a service whose file does not have it.
    """

    section: str
    key: str
    default: str | None = None


class OverRPC(NamedTuple):
    """Notifications for which a service uses the transport of its RPC.

    :param what: the part of the service that does so
    :param listens: whether it takes notifications, otherwise it publishes them
    :param enabled: section and name of the boolean option that switches it on, which
        is off by default; None: it is always on
    """

    what: str
    listens: bool
    enabled: tuple[str, str] | None = None


class Service(NamedTuple):
    """One service and its main configuration files.

    `files` are names as the shell matches them. Without `rpc` a service only
    publishes or consumes notifications; one that `notifies` publishes some. RPC that
    has to be switched on names section and name of the boolean option in `rpc_enabled`.
    `exchange` is the control_exchange that it sets as its own default. One that
    `listens` takes notifications from others, and does not share them out to a pool
    of its own. `over_rpc` says which notifications use the RPC transport.
    `programs` have files of their own besides the main one, without the service's
    name in front; `agents` are files that some of them are started with, and `guests`
    those that go to virtual machines, where addresses may be others. `registers` are
    options of its own that values may refer to (`$host`). `places` leads from section
    and name of an option to its place in a file that is none of oslo.config; a section
    of it that has an option and value of `filters` is that place by any other name.
    """

    name: str
    files: tuple[str, ...]
    rpc: bool = True
    rpc_enabled: tuple[str, str] | None = None
    exchange: str = "openstack"
    listens: bool = False
    notifies: bool = True
    over_rpc: OverRPC | None = None
    programs: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    registers: frozenset[str] = frozenset({"host"})
    places: Mapping[tuple[str, str], Place] = MappingProxyType({})
    filters: frozenset[tuple[str, str]] = frozenset()

    def place(self, section: str, key: str) -> Place:
        """Where the service's files have an option."""
        return self.places.get((section, key), Place(section, key))


#: What usually is, and what makes, a filter of ceilometermiddleware in a file of
#: PasteDeploy.
_MIDDLEWARE = "filter:ceilometer"
_FILTERS = frozenset(
    {
        ("paste.filter_factory", "ceilometermiddleware.swift:filter_factory"),
        ("use", "egg:ceilometermiddleware#swift"),
    }
)

#: As ceilometermiddleware reads its section.
_PROXY = {
    ("DEFAULT", "control_exchange"): Place(_MIDDLEWARE, "control_exchange"),
    ("oslo_messaging_notifications", "transport_url"): Place(_MIDDLEWARE, "url"),
    ("oslo_messaging_notifications", "driver"): Place(
        _MIDDLEWARE, "driver", "messagingv2"
    ),
    ("oslo_messaging_notifications", "topics"): Place(_MIDDLEWARE, "topic"),
}

#: The files of Nova's conductors, of which each has a cell of its own.
CELLS = "nova_cell*.conf"

_ADDRESSES = frozenset({"host", "my_ip", "state_path"})
_STATE = frozenset({"host", "state_path"})
_PATHS = _STATE | {"bindir", "pybasedir"}
_NONE = frozenset[str]()

SERVICES = (
    Service(
        "aodh",
        ("aodh.conf",),
        rpc=False,
        exchange="aodh",
        programs=("api", "evaluator", "listener", "notifier"),
        registers=_NONE,
    ),
    Service(
        "barbican",
        ("barbican.conf",),
        rpc_enabled=("queue", "enable"),
        notifies=False,
        over_rpc=OverRPC(
            "its listener for Keystone's notifications",
            listens=True,
            enabled=("keystone_notifications", "enable"),
        ),
        programs=("api", "keystone-listener", "retry", "worker"),
        registers=_NONE,
    ),
    Service("blazar", ("blazar.conf",), listens=True, programs=("api", "manager")),
    Service(
        "ceilometer",
        ("ceilometer.conf",),
        rpc=False,
        exchange="ceilometer",
        listens=True,
        programs=("agent-notification", "polling"),
    ),
    Service(
        "cinder",
        ("cinder.conf",),
        programs=("api", "backup", "scheduler", "volume"),
        registers=_ADDRESSES | {"cluster"},
    ),
    Service(
        "cloudkitty",
        ("cloudkitty.conf",),
        exchange="cloudkitty",
        notifies=False,
        programs=("api", "processor"),
    ),
    Service(
        "cyborg",
        ("cyborg.conf",),
        exchange="cyborg",
        programs=("agent", "api", "conductor"),
        registers=_PATHS,
    ),
    Service(
        "designate",
        ("designate.conf",),
        exchange="designate",
        listens=True,
        programs=("api", "central", "mdns", "producer", "sink", "worker"),
        registers=_STATE | {"pybasedir"},
    ),
    Service(
        "glance",
        ("glance-api.conf",),
        rpc=False,
        exchange="glance",
        programs=("api", "scrubber"),
        registers=_NONE,
    ),
    Service(
        "heat",
        ("heat.conf",),
        exchange="heat",
        programs=("api", "api-cfn", "engine"),
    ),
    Service(
        "ironic",
        ("ironic.conf",),
        exchange="ironic",
        programs=("api", "conductor", "networking", "novncproxy", "pxe-filter"),
        registers=_ADDRESSES | _PATHS | {"tempdir"},
    ),
    Service(
        "ironic-inspector",
        ("ironic-inspector.conf", "inspector.conf"),
        notifies=False,
        programs=("api-wsgi", "conductor"),
    ),
    Service(
        "keystone", ("keystone.conf",), rpc=False, exchange="keystone", registers=_NONE
    ),
    Service(
        "magnum",
        ("magnum.conf",),
        exchange="magnum",
        over_rpc=OverRPC("its notifier", listens=False),
        programs=("api", "conductor"),
        registers=_PATHS,
    ),
    Service(
        "manila",
        ("manila.conf",),
        programs=("api", "data", "scheduler", "share"),
        registers=_ADDRESSES,
    ),
    Service(
        "masakari",
        ("masakari.conf",),
        exchange="masakari",
        programs=("api", "engine"),
        registers=_PATHS,
    ),
    Service(
        "mistral",
        ("mistral.conf",),
        notifies=False,
        over_rpc=OverRPC("its event engine", listens=True),
        programs=("server",),
        registers=_NONE,
    ),
    Service(
        "neutron",
        ("neutron.conf",),
        exchange="neutron",
        programs=(
            "server",
            "dhcp-agent",
            "l3-agent",
            "linuxbridge-agent",
            "macvtap-agent",
            "metadata-agent",
            "metering-agent",
            "openvswitch-agent",
            "ovn-agent",
            "ovn-maintenance-worker",
            "ovn-metadata-agent",
            "periodic-workers",
            "rpc-server",
            "sriov-nic-agent",
        ),
        # Kolla has those of plugins/ml2 beside neutron.conf
        agents=(
            "bgp_dragent.ini",
            "dhcp_agent.ini",
            "ironic_neutron_agent.ini",
            "l2gw_agent.ini",
            "l2gw_plugin.ini",
            "l3_agent.ini",
            "linuxbridge_agent.ini",
            "metadata_agent.ini",
            "metering_agent.ini",
            "ml2_conf.ini",
            "mlnx_agent.ini",
            "neutron_ovn_metadata_agent.ini",
            "neutron_ovn_vpn_agent.ini",
            "neutron_taas.conf",
            "neutron_vpnaas.conf",
            "openvswitch_agent.ini",
            "ovn_agent.ini",
            "ovn_metadata_agent.ini",
            "plugins/*/*.ini",
            "sriov_agent.ini",
            "taas_plugin.ini",
            "vpn_agent.ini",
        ),
        registers=_ADDRESSES,
    ),
    Service(
        "nova",
        ("nova.conf", "nova-cpu.conf", CELLS),
        exchange="nova",
        programs=(
            "api",
            "api-metadata",
            "compute",
            "conductor",
            "novncproxy",
            "scheduler",
            "serialproxy",
            "spicehtml5proxy",
        ),
        registers=_ADDRESSES
        | {"instances_path", "my_block_storage_ip", "pybasedir", "tempdir"},
    ),
    Service(
        "octavia",
        ("octavia.conf",),
        exchange="octavia",
        programs=("api", "driver-agent", "health-manager", "housekeeping", "worker"),
    ),
    Service(
        "swift",
        ("proxy-server.conf",),
        rpc=False,
        exchange="swift",
        places=_PROXY,
        filters=_FILTERS,
    ),
    Service(
        "tacker",
        ("tacker.conf",),
        exchange="tacker",
        programs=("conductor", "server"),
        registers=_STATE | {"bind_host"},
    ),
    Service(
        "trove",
        ("trove.conf",),
        programs=("api", "conductor", "guestagent", "taskmanager"),
        guests=("trove-guestagent.conf",),
        registers=frozenset({"bind_host", "host", "pybasedir"}),
    ),
    Service(
        "venus",
        ("venus.conf",),
        over_rpc=OverRPC("its notifier", listens=False),
        programs=("api", "manager"),
        registers=_ADDRESSES,
    ),
    Service(
        "watcher",
        ("watcher.conf",),
        exchange="watcher",
        programs=("api", "applier", "decision-engine"),
        registers=_PATHS,
    ),
    Service(
        "zun",
        ("zun.conf",),
        exchange="zun",
        notifies=False,
        programs=("api", "cni-daemon", "compute", "wsproxy"),
        registers=_ADDRESSES | _PATHS | {"my_block_storage_ip"},
    ),
)
