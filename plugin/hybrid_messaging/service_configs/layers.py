# SPDX-License-Identifier: Apache-2.0
"""The files that a service's programs read after its main file.

oslo.config reads two files by default, /etc/nova/nova.conf and that of the program,
/etc/nova/nova-compute.conf, then the directories of both (`find_config_files` and
`find_config_dirs`). Packages of RDO start Neutron with the directories conf.d/common
and conf.d/PROGRAM, those of SUSE have nova.conf.d and nova-api.conf.d, and Neutron's
agents have files of their own.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging.service_configs.catalogue import CELLS, Service
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.source import read

#: The options that decide where messages go.
TRANSPORT_OPTIONS = (
    ("DEFAULT", "transport_url"),
    ("oslo_messaging_notifications", "transport_url"),
    ("oslo_messaging_notifications", "driver"),
)
#: Without one of these, a file sets none of them.
_WORDS = (b"transport_url", b"oslo_messaging_notifications")


class Layer(NamedTuple):
    """What a program reads after a service's main file.

    :param files: after the main file
    :param directories: of which *.conf is read, after that of the main file
    :param certain: whether a program surely reads it
    """

    files: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()
    certain: bool = True

    def overriding(self) -> list[Path]:
        """Those of its files that decide on a transport.

        :raises ServiceConfigError: one that is surely read cannot be understood
        """
        fragments = (path for each in self.directories for path in fragments_of(each))
        return [
            path
            for path in (*self.files, *fragments)
            if sets_transport(path, self.certain)
        ]


def fragments_of(directory: Path) -> list[Path]:
    """The files of a configuration directory, in the order in which they are read."""
    return sorted(directory.glob("*.conf"))


def default_directories(files: Iterable[Path]) -> list[Path]:
    """The configuration directories that go with files unless others are named."""
    return [path.with_name(f"{path.name}.d") for path in files]


def packaged(main: Path) -> list[Path]:
    """What packages of RDO have a service read before /etc/nova/nova.conf."""
    directory = main.parent
    if directory.parent.name != "etc":
        return []
    share = directory.parent.with_name("usr") / "share" / directory.name
    path = share / f"{main.stem}-dist.conf"
    return [path] if path.exists() else []


def sets_transport(path: Path, certain: bool = False) -> bool:
    """Whether a file has one of the options that `configure` sets.

    :param certain: whether it is an error if the file cannot be understood
    """
    try:
        data = read(path).data
        if not any(word in data for word in _WORDS):
            return False
        document = Document(data, path)
    except ServiceConfigError:
        if certain:
            raise
        return False
    return any(document.find(*option) for option in TRANSPORT_OPTIONS)


def layers(main: Path, service: Service) -> Iterator[Layer]:
    """What decides on transports after a main file, and its directory, have done so.

    :raises ServiceConfigError: see `Layer.overriding`
    """
    seen = {os.path.realpath(main)}
    found = (*_known(main, service), *_unknown(main, service), *_homes(main, service))
    for layer in found:
        paths = {os.path.realpath(path) for path in layer.overriding()}
        if paths - seen:
            seen |= paths
            yield layer


def overriding(main: Path, service: Service) -> dict[Path, bool]:
    """All files that decide on transports instead of a main file.

    :returns: each with whether a program surely reads it
    :raises ServiceConfigError: see `Layer.overriding`
    """
    own = Layer(directories=(main.with_name(f"{main.name}.d"),))
    found: dict[Path, bool] = {}
    for layer in (own, *layers(main, service)):
        for path in layer.overriding():
            found.setdefault(path, layer.certain)
    return found


def _known(main: Path, service: Service) -> Iterator[Layer]:
    if service.places or not _has_programs(main, service):
        return
    directory = main.parent
    common = directory / "conf.d" / "common"
    yield Layer(directories=(common,))
    places = [directory]
    if directory.name == service.name:
        places.append(directory.parent)
    for program in service.programs:
        name = f"{service.name}-{program}"
        file = _first(place / f"{name}.conf" for place in places)
        fragments = _first(place / f"{name}.conf.d" for place in places)
        if file != (main,):
            yield Layer(file, fragments)
        yield Layer(directories=(common, directory / "conf.d" / name))
    for pattern in service.agents:
        for path in sorted(directory.glob(pattern)):
            yield Layer((path,))


def _has_programs(main: Path, service: Service) -> bool:
    """Whether programs are started with a main file and files of their own."""
    return main.name == service.files[0] or (
        main.name in service.files[1:] and CELLS not in service.files
    )


def _first(paths: Iterable[Path]) -> tuple[Path, ...]:
    """As oslo.config, which reads the first of several that exists."""
    return next(((path,) for path in paths if path.exists()), ())


def _homes(main: Path, service: Service) -> Iterator[Layer]:
    """What oslo.config looks for first where a program is started without files.

    A file in the home directory of whoever runs the program takes the place of the one
    in /etc.
    """
    root = main.parent.parent
    if root.name != "etc" or service.places or not _has_programs(main, service):
        return
    for home in (_home(service.name), "/root"):
        place = root.parent / home.lstrip("/")
        for directory in (place / f".{service.name}", place):
            yield Layer((directory / main.name,), certain=False)


def _home(user: str) -> str:
    """Where this machine has a user's home, or packages have a service's."""
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        return f"/var/lib/{user}"


def _unknown(main: Path, service: Service) -> Iterator[Layer]:
    """All other files of a directory that is the service's alone."""
    if (
        service.name not in main.parent.name
        or service.places
        or not _has_programs(main, service)
    ):
        return
    mains = {path for name in service.files for path in main.parent.glob(name)}
    own = {path.with_name(f"{path.name}.d") for path in mains}
    for directory, _, names in sorted(os.walk(main.parent)):
        for name in sorted(names):
            path = Path(directory, name)
            if (
                path.suffix in (".conf", ".ini")
                and path not in mains
                and path.parent not in own
                and path.is_file()
            ):
                yield Layer((path,), certain=False)
