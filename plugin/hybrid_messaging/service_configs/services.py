# SPDX-License-Identifier: Apache-2.0
"""The OpenStack services that we know: their files, and what they do on a bus."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.source import read


class Place(NamedTuple):
    """Where a file has what others have in an option of oslo.messaging.

    `default` is the value of a service whose file does not have it.
    """

    section: str
    key: str
    default: str | None = None


class Service(NamedTuple):
    """One service and its main configuration files.

    `files` are names as the shell matches them. Without `rpc` a service only
    publishes or consumes notifications. `exchange` is the control_exchange
    that it sets as its own default. One that `listens` takes notifications from
    others, and does not share them out to a pool of its own. `places` leads from
    section and name of an option to its place in a file that is none of oslo.config.
    """

    name: str
    files: tuple[str, ...]
    rpc: bool = True
    exchange: str = "openstack"
    listens: bool = False
    places: Mapping[tuple[str, str], Place] = MappingProxyType({})

    def place(self, section: str, key: str) -> Place:
        """Where the service's files have an option."""
        return self.places.get((section, key), Place(section, key))

    def takes_part(self, document: Document) -> bool:
        """Whether a file has the service use oslo.messaging."""
        sections = {place.section for place in self.places.values()}
        return not sections or any(
            option.section in sections for option in document.options
        )


_MIDDLEWARE = "filter:ceilometer"

#: As ceilometermiddleware reads its section of a file of PasteDeploy.
_PROXY = {
    ("DEFAULT", "control_exchange"): Place(_MIDDLEWARE, "control_exchange"),
    ("oslo_messaging_notifications", "transport_url"): Place(_MIDDLEWARE, "url"),
    ("oslo_messaging_notifications", "driver"): Place(
        _MIDDLEWARE, "driver", "messagingv2"
    ),
    ("oslo_messaging_notifications", "topics"): Place(_MIDDLEWARE, "topic"),
}

#: The files of Nova's conductors, of which each has a cell of its own.
_CELLS = "nova_cell*.conf"

#: From each service's own calls of get_rpc_transport, get_notification_transport
#: and set_transport_defaults.
SERVICES = (
    Service("aodh", ("aodh.conf",), rpc=False, exchange="aodh"),
    Service("barbican", ("barbican.conf",)),
    Service("blazar", ("blazar.conf",)),
    Service(
        "ceilometer",
        ("ceilometer.conf",),
        rpc=False,
        exchange="ceilometer",
        listens=True,
    ),
    Service("cinder", ("cinder.conf",)),
    Service("cloudkitty", ("cloudkitty.conf",)),
    Service("cyborg", ("cyborg.conf",)),
    Service("designate", ("designate.conf",), exchange="designate", listens=True),
    Service("glance", ("glance-api.conf",), rpc=False, exchange="glance"),
    Service("heat", ("heat.conf",), exchange="heat"),
    Service("ironic", ("ironic.conf",), exchange="ironic"),
    Service("ironic-inspector", ("ironic-inspector.conf", "inspector.conf")),
    Service("keystone", ("keystone.conf",), rpc=False, exchange="keystone"),
    Service("magnum", ("magnum.conf",), exchange="magnum"),
    Service("manila", ("manila.conf",)),
    Service("masakari", ("masakari.conf",)),
    Service("mistral", ("mistral.conf",)),
    Service("neutron", ("neutron.conf",), exchange="neutron"),
    Service("nova", ("nova.conf", "nova-cpu.conf", _CELLS), exchange="nova"),
    Service("octavia", ("octavia.conf",), exchange="octavia"),
    Service(
        "swift", ("proxy-server.conf",), rpc=False, exchange="swift", places=_PROXY
    ),
    Service("tacker", ("tacker.conf",)),
    Service("trove", ("trove.conf",)),
    Service("vitrage", ("vitrage.conf",)),
    Service("watcher", ("watcher.conf",)),
    Service("zun", ("zun.conf",)),
)

#: Where packages, DevStack, Kolla and TripleO put a service's files, seen from
#: the directory that is searched.
_LAYOUTS = ("{name}", "kolla/*{name}*", "{name}*/etc/{name}")

#: The options that decide where messages go.
TRANSPORT_OPTIONS = (
    ("DEFAULT", "transport_url"),
    ("oslo_messaging_notifications", "transport_url"),
    ("oslo_messaging_notifications", "driver"),
)


def identify(path: str | os.PathLike[str]) -> Service:
    """The service that reads a file, judged by its name.

    A fragment of a configuration directory belongs to the service that the
    directory is named after. A file of an unknown service counts as one of a
    service that does everything.
    """
    path = Path(path)
    directory = path.parent.name
    name = directory.removesuffix(".d") if directory.endswith(".conf.d") else path.name
    for service in SERVICES:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in service.files):
            return service
    return Service(Path(name).stem, (name,))


def discover(root: Path) -> list[Path]:
    """Find the services' main files below a directory such as /etc, by their layout.

    :raises ServiceConfigError: nothing is there, or it cannot be looked into
    """
    if not root.is_dir():
        raise ServiceConfigError(root, "is not a directory")
    found = [
        path
        for service in SERVICES
        for directory in _directories(root, service.name)
        for pattern in service.files
        for path in sorted(directory.glob(pattern))
        if _takes_part(service, pattern, path)
    ]
    if not found:
        raise ServiceConfigError(
            root,
            "no OpenStack service has its configuration here; name the files instead",
        )
    return list(dict.fromkeys(found))


def refuse_bystander(service: Service, document: Document) -> None:
    """Refuse a file that does not have its service use oslo.messaging.

    :raises ServiceConfigError: it is one
    """
    if not service.takes_part(document):
        sections = dict.fromkeys(place.section for place in service.places.values())
        raise ServiceConfigError(
            document.path, f"sends no messages: it has no [{', '.join(sections)}]"
        )


def overriding_fragments(path: Path) -> Iterator[Path]:
    """Files of the default configuration directory that decide instead of `path`.

    They set one of the options that `configure` sets, and oslo.config reads
    nova.conf.d/*.conf after nova.conf (`find_config_dirs`).
    """
    for fragment in sorted(path.parent.glob(f"{path.name}.d/*.conf")):
        document = Document(read(fragment).data, fragment)
        if any(document.find(*option) for option in TRANSPORT_OPTIONS):
            yield fragment


def _takes_part(service: Service, pattern: str, path: Path) -> bool:
    """Whether a file is of interest, as one that cannot be read is."""
    if pattern != _CELLS and not service.places:
        return True
    try:
        document = Document(read(path).data, path)
    except ServiceConfigError:
        return True
    return (
        _has_conductor(document) if pattern == _CELLS else service.takes_part(document)
    )


def _has_conductor(document: Document) -> bool:
    """Whether a cell's file is one that somebody reads.

    On nodes without a conductor, such as compute nodes, DevStack leaves there what
    Neutron has to say (configure_neutron_nova), and neither transport nor database.
    """
    return any(
        document.find(*option)
        for option in (("DEFAULT", "transport_url"), ("database", "connection"))
    )


def _directories(root: Path, name: str) -> Iterator[Path]:
    for layout in _LAYOUTS:
        for directory in sorted(root.glob(layout.format(name=name))):
            if not directory.is_dir():
                continue
            if not os.access(directory, os.R_OK | os.X_OK, effective_ids=True):
                raise ServiceConfigError(
                    directory, "no permission to look into it; run this as root"
                )
            yield directory
