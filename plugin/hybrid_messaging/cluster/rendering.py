# SPDX-License-Identifier: Apache-2.0
"""Join what the roles of all hosts need to one tree of files.

==============================  ======================================================
``credentials.json``            passwords and identifiers, made once
``authority/ca.pem``, ``.key``  the authority that signs the certificates of all hosts
``hosts/NAME/``                 all that a host needs; it belongs into its `directory`
``hosts/NAME/services.env``     the transport URLs for services of this host
``zones/NAME/``                 the same URLs for services of any other host in a zone,
                                and the certificate to trust
``inventory.yaml``              the hosts, for Ansible
==============================  ======================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from hybrid_messaging.cluster import (
    ClusterError,
    credentials,
    inventory,
    kafka,
    proxies,
    rabbitmq,
    redis,
    routers,
    transports,
    tree,
    units,
)
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import (
    EDGE,
    INTERIOR,
    KAFKA,
    RABBITMQ,
    REDIS,
    SENTINEL,
    ZMQ_PROXY,
    Host,
    Topology,
)
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import certificates
from hybrid_messaging.engines.certificates import Authority

Files = Callable[[Topology, Host, Credentials], Iterator["File | units.Unit"]]

#: What the hosts of each role need.
ROLES: dict[str, Files] = {
    INTERIOR: routers.files,
    EDGE: routers.files,
    REDIS: redis.files,
    SENTINEL: redis.sentinel_files,
    RABBITMQ: rabbitmq.files,
    KAFKA: kafka.files,
    ZMQ_PROXY: proxies.files,
}
#: What hosts can run: the names of units, and of folders with what these need.
SERVERS = ("router", "redis", "sentinel", "rabbitmq", "kafka", "zmq-proxy")
AUTHORITY = PurePosixPath("authority")
SERVICES = "services.env"

_CA, _CA_KEY = (
    AUTHORITY / certificates.AUTHORITY,
    AUTHORITY / certificates.AUTHORITY_KEY,
)
_HOST = PurePosixPath("tls") / certificates.HOST
# one of them without the other one would leave hosts that trust nobody
_LOST = (
    "restore {directory} from a backup, or remove all of it, render again, and copy "
    "the result to all hosts at once"
)


def names(topology: Topology, host: Host) -> list[str]:
    """What the certificate of a host is for.

    That of a RabbitMQ node is for all of them: a service that goes from one to the next
    still expects the name of the first one (kombu, transport/pyamqp.py).
    """
    nodes = topology.having(RABBITMQ)
    others = (other for other in nodes if host in nodes and other != host)
    return [
        *(name for each in (host, *others) for name in (each.name, each.address)),
        "localhost",
        "127.0.0.1",
        "::1",
    ]


def certificate(host: Host) -> PurePosixPath:
    """Where the certificate of a host is in the rendered directory, with its key."""
    return PurePosixPath("hosts") / host.name / _HOST


def render(
    topology: Topology, directory: Path, write: bool = True
) -> tuple[list[tree.Change], Credentials]:
    """Render a cluster, keeping what was made once.

    :param directory: for the files of all hosts
    :param write: otherwise only say what would change
    :returns: the changes, and the credentials, which must not be shown
    :raises ClusterError: the directory cannot be used, or what it holds is damaged
    """
    if not write and not directory.exists():
        return _planned(topology, directory)
    with tree.opened(directory):
        changes, secrets = _planned(topology, directory)
        if write:
            tree.write(directory, changes)
    return changes, secrets


def _planned(
    topology: Topology, directory: Path
) -> tuple[list[tree.Change], Credentials]:
    found = credentials.load(directory)
    if found is None and any(tree.existing(directory)):
        raise ClusterError(
            f"{directory} has rendered hosts and no {credentials.FILE}: "
            + _LOST.format(directory=directory)
        )
    secrets = (found or Credentials()).numbering(
        host.name for host in topology.having(KAFKA)
    )
    authority = _authority(directory) if topology.tls else None
    files = _files(topology, directory, secrets, authority)
    return tree.compare(directory, files), secrets


def _files(
    topology: Topology,
    directory: Path,
    secrets: Credentials,
    authority: Authority | None,
) -> Iterator[File]:
    # before anything that is worth nothing without it
    yield File(PurePosixPath(credentials.FILE), secrets.text().encode(), opaque=True)
    ca = b""
    if authority is not None:
        ca, key = authority.pem()
        yield File(_CA_KEY, key, opaque=True)
        yield File(_CA, ca, private=False, opaque=True)
    for host in topology.hosts:
        folder = PurePosixPath("hosts") / host.name
        for file in _host_files(topology, host, secrets):
            yield File(folder / file.path, file.data, file.private)
        if authority is not None:
            path = certificate(host)
            pem = _host_certificate(directory / path, authority, names(topology, host))
            yield File(path, pem, opaque=True)
            yield File(
                folder / "tls" / certificates.AUTHORITY, ca, private=False, opaque=True
            )
    yield inventory.file(topology, SERVERS)
    for zone in topology.zones:
        folder = PurePosixPath("zones") / zone
        yield _services(topology, folder, secrets, zone)
        if authority is not None:
            yield File(folder / certificates.AUTHORITY, ca, private=False, opaque=True)


def _host_files(topology: Topology, host: Host, secrets: Credentials) -> Iterator[File]:
    for role in host.roles:
        for item in ROLES[role](topology, host, secrets):
            yield item.file(topology) if isinstance(item, units.Unit) else item
    yield _services(topology, PurePosixPath(), secrets, host.zone, host)


def _services(
    topology: Topology,
    folder: PurePosixPath,
    secrets: Credentials,
    zone: str,
    host: Host | None = None,
) -> File:
    found = transports.variables(topology, secrets, zone, host)
    text = "".join(f"{name}='{url}'\n" for name, url in found.items())
    return File(folder / SERVICES, text.encode())


def _authority(directory: Path) -> Authority:
    stored = [_stored(directory / path) for path in (_CA, _CA_KEY)]
    if not any(stored) and not any(directory.glob(f"hosts/*/{_HOST}")):
        return certificates.new_authority()
    found = certificates.authority(*(data or b"" for data in stored))
    if found is None:
        raise ClusterError(
            f"{directory / _CA} or its key is missing, damaged, or about to end: "
            + _LOST.format(directory=directory)
        )
    return found


def _host_certificate(path: Path, authority: Authority, names: list[str]) -> bytes:
    """The certificate that a host has, if it is good for its names, else a new one."""
    kept = _stored(path)
    if kept is not None and authority.vouches_for(kept, names):
        return kept
    return authority.issue(names)


def _stored(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClusterError(f"{path} cannot be read: {error.strerror}") from error
