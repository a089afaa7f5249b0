# SPDX-License-Identifier: Apache-2.0
"""Find the files of OpenStack services, and tell whose they are."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybrid_messaging.service_configs.catalogue import CELLS, SERVICES, Service
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import sets_transport
from hybrid_messaging.service_configs.source import read

#: Where packages, DevStack, Kolla and TripleO put a service's files, seen from
#: the directory that is searched.
_LAYOUTS = ("{name}", "kolla/*{name}*", "{name}*/etc/{name}")


#: What Ironic's rpc_transport says where its RPC uses no oslo.messaging.
_NO_BUS = ("json-rpc", "none")


class NothingFound(ServiceConfigError):
    """No service has its files there."""


def identify(path: str | os.PathLike[str]) -> Service:
    """The service that reads a file, judged by its name.

    A fragment of a configuration directory belongs to the service, or to the program,
    that the directory is named after. A file of an unknown service counts as one of a
    service that does everything.
    """
    path = Path(path)
    directory, above = path.parent.name, path.parent.parent
    name, tail = path.name, str(path)
    if directory.endswith(".conf.d"):
        name = directory.removesuffix(".d")
    elif above.name == "conf.d":  # of a program, or common to all
        name = f"{above.parent.name if directory == 'common' else directory}.conf"
    for named_by in (_is_main, _is_additional):
        for service in SERVICES:
            if named_by(service, name, tail):
                return service
    return Service(Path(name).stem, (name,))


def _is_main(service: Service, name: str, path: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in service.files)


def _is_additional(service: Service, name: str, path: str) -> bool:
    programs = (f"{service.name}-{program}.conf" for program in service.programs)
    agents = (f"*/{pattern}" for pattern in service.agents)
    return name in programs or any(
        fnmatch.fnmatchcase(f"/{path}", pattern) for pattern in agents
    )


def discover(root: Path) -> list[Path]:
    """Find the services' main files below a directory such as /etc, by their layout.

    :raises NothingFound: nothing is there
    :raises ServiceConfigError: it cannot be looked into
    """
    if not root.is_dir():
        raise ServiceConfigError(root, "is not a directory")
    found = [
        path
        for service in SERVICES
        for directory in _directories(root, service.name)
        for pattern in service.files
        for path in _called(directory, pattern) or _instead_of(directory, pattern)
        if _takes_part(service, pattern, path)
    ]
    if not found:
        etc = root / "etc"
        cure = f"try {etc}, or name the files" if etc.is_dir() else "name the files"
        raise NothingFound(
            root,
            f"no OpenStack service has its configuration here; {cure} instead",
        )
    return list(dict.fromkeys(found))


def together(paths: Iterable[Path]) -> list[list[Path]]:
    """Put what `discover` has found in groups that one service reads each."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        fragment = path.parent.name.endswith(".conf.d")
        groups.setdefault(path.parent if fragment else path, []).append(path)
    return list(groups.values())


def _called(directory: Path, pattern: str) -> list[Path]:
    """The files of a name, symbolic links among them that lead nowhere."""
    return sorted(
        path for path in directory.iterdir() if fnmatch.fnmatch(path.name, pattern)
    )


def _instead_of(directory: Path, name: str) -> list[Path]:
    """Fragments of a service that has no main file, as on nodes of RHOSO."""
    fragments = sorted((directory / f"{name}.d").glob("*.conf"))
    return fragments if any(map(sets_transport, fragments)) else []


def as_configured(service: Service, documents: Iterable[Document]) -> Service:
    """A service as its files have it, which may choose RPC without a bus, or none."""
    # it takes as long to import as all the rest of this program's commands
    from oslo_utils import strutils

    def last(section: str, key: str) -> str:
        found = [document.value(section, key) for document in documents]
        return next((value.strip() for value in reversed(found) if value), "")

    documents = tuple(documents)
    for document in documents:
        service = _located(service, document)
    enabled = service.rpc_enabled
    off = enabled is not None and not strutils.bool_from_string(last(*enabled))
    if off or last("DEFAULT", "rpc_transport") in _NO_BUS:
        return service._replace(rpc=False)
    return service


def _located(service: Service, document: Document) -> Service:
    """A service with its places in the section that its file has for them."""
    for option in document.options:
        if (option.key, option.value) in service.filters:
            places = {
                known: place._replace(section=option.section)
                for known, place in service.places.items()
            }
            return service._replace(places=places)
    return service


def refuse_bystander(service: Service, document: Document) -> None:
    """Refuse a file that does not have its service use oslo.messaging.

    :raises ServiceConfigError: it is one
    """
    if not _has_part(service, document):
        sections = dict.fromkeys(place.section for place in service.places.values())
        raise ServiceConfigError(
            document.path, f"sends no messages: it has no [{', '.join(sections)}]"
        )


def _takes_part(service: Service, pattern: str, path: Path) -> bool:
    """Whether a file is of interest, as one that cannot be read is."""
    if pattern != CELLS and not service.places:
        return True
    try:
        document = Document(read(path).data, path)
    except ServiceConfigError:
        return True
    return (
        _has_conductor(document) if pattern == CELLS else _has_part(service, document)
    )


def _has_part(service: Service, document: Document) -> bool:
    """Whether a file has the service use oslo.messaging."""
    places = _located(service, document).places
    sections = {place.section for place in places.values()}
    return not sections or any(
        option.section in sections for option in document.options
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
                    directory, "no permission to read it; run this as root"
                )
            yield directory
