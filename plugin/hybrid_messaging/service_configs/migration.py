# SPDX-License-Identifier: Apache-2.0
"""Which bus each service's file names during a migration, and how it names the next.

A service is on the old bus, on both, or on the new one. One that is on the old bus
alone and one that is on the new bus alone do not reach each other. So no file goes from
one of these to the other in one step: `start` brings all onto both, `finish` from both
to the new one, and `undo` from both to the old one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs import rewriting, strays
from hybrid_messaging.service_configs.catalogue import Service
from hybrid_messaging.service_configs.deployment_tools.rendered import Author, author
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.rewriting import Rewrite, Target
from hybrid_messaging.service_configs.services import as_configured, identify
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.source import read, read_to_change

_RPC = ("DEFAULT", "transport_url")
_NOTIFY = (NOTIFICATIONS, "transport_url")
_MIGRATE = ("oslo_messaging_migrate", "from_url")
#: The drivers between which RPC can move, and notifications.
_RPC_DRIVERS = frozenset({"amqp", "kombu", "rabbit", "zmq"})
_NOTIFY_DRIVERS = frozenset({"amqp", "kafka", "kombu", "rabbit"})


class Stage(Enum):
    """Where a service is by what its file says."""

    OLD = "old"
    BOTH = "both"
    NEW = "new"
    #: it has no such transport, or one that has no part in the migration
    FOREIGN = "foreign"


class Buses(NamedTuple):
    """What a URL says about the two buses of a migration.

    :param stage: which of them a service with this URL uses
    :param new: the URL of the new bus, None if it does not say
    :param old: the URL of the old bus, None if it does not say
    :param reason: why it is foreign
    """

    stage: Stage
    new: str | None = None
    old: str | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a migration is about.

    :param new: the URL of the bus that services move to
    :param keep_vhosts: each service has the virtual host there that it had
    :param notifications: the transport of notifications moves, and not that of RPC
    :param old: the URL of the old bus, for files that do not name it any more
    """

    new: urls.TransportURL
    keep_vhosts: bool = False
    notifications: bool = False
    old: str | None = None

    @property
    def drivers(self) -> frozenset[str]:
        """Those that the transport may have before and after."""
        return _NOTIFY_DRIVERS if self.notifications else _RPC_DRIVERS


@dataclasses.dataclass(frozen=True)
class Place:
    """The transport of a file that may move.

    :param target: the file
    :param text: its URL as it stands there, None if it names none
    :param option: section and name of the option
    :param url: the new bus, with the virtual host that the file has there
    :param buses: see `Buses`
    """

    target: Target
    service: Service
    document: Document
    option: tuple[str, str]
    text: str | None
    url: urls.TransportURL
    buses: Buses


def look(target: Target, plan: Plan) -> Place:
    """Read where a file is in a migration.

    :raises ServiceConfigError: it cannot be read or understood
    """
    document = Document(read(target.path).data, target.path)
    service = as_configured(identify(target.path), [document])
    option = _NOTIFY if plan.notifications else _RPC
    if plan.notifications and service.places:
        place = service.place(*option)
        option = place.section, place.key
    text = document.value(*option)
    new = _with_vhost(plan, target, text)
    if not text:
        found = Buses(Stage.FOREIGN, reason=f"it has no [{option[0]}] {option[1]}")
    elif not (plan.notifications or service.rpc):
        found = Buses(Stage.FOREIGN, reason=f"{service.name} has no RPC")
    elif not plan.notifications and rewriting.is_over_rpc(service, document):
        assert service.over_rpc is not None
        why = f"its RPC transport has notifications for {service.over_rpc.what}"
        found = Buses(Stage.FOREIGN, reason=why)
    else:
        beside = document.value(*_MIGRATE)
        found = of_url(text, new, beside, plan.keep_vhosts, plan.drivers)
    return Place(target, service, document, option, text, new, found)


def _with_vhost(plan: Plan, target: Target, text: str | None) -> urls.TransportURL:
    vhost = target.vhost
    if vhost is None and plan.keep_vhosts:
        with contextlib.suppress(urls.UrlError):
            url = urls.parse(text or "")
            before = urls.parse(urls.origin(url) or str(url))
            vhost = None if before.vhost == "/" else before.vhost
    return plan.new if vhost is None else dataclasses.replace(plan.new, vhost=vhost)


def of_url(
    text: str,
    new: urls.TransportURL,
    beside: str | None = None,
    any_vhost: bool = False,
    drivers: frozenset[str] = _RPC_DRIVERS,
) -> Buses:
    """What a URL says about a migration to a bus.

    :param beside: [oslo_messaging_migrate] from_url of the same file
    :param any_vhost: whether another virtual host of the new bus is part of it
    :param drivers: those of URLs that may move
    """
    try:
        url = urls.parse(text)
        here = str(urls.destination(url))
        there = urls.origin(url) or (beside if url.driver == urls.MIGRATE else None)
        if there is not None:
            urls.parse(there)
    except urls.UrlError as error:
        return Buses(Stage.FOREIGN, reason=str(error))

    def is_new(other: str) -> bool:
        return _meet(other, str(new), any_vhost)

    if there is not None:
        if is_new(here):
            return Buses(Stage.BOTH, here, there)
        if is_new(there):  # services prefer the old one: they are on the way back
            return Buses(Stage.BOTH, there, here)
        why = "it moves to another bus, or to another virtual host (--keep-vhosts)"
        return Buses(Stage.FOREIGN, reason=why)
    if url.driver not in drivers:
        return Buses(Stage.FOREIGN, reason=f"{url.driver}:// cannot be moved")
    if is_new(text):
        return Buses(Stage.NEW, new=text)
    if "$" in text:
        why = (
            "its URL has references ($name), which oslo.config replaces: write them out"
        )
        return Buses(Stage.FOREIGN, reason=why)
    return Buses(Stage.OLD, old=text)


def _meet(one: str, other: str, any_vhost: bool) -> bool:
    """Whether services with these URLs may talk to each other."""
    found, known = strays.buses(one), strays.buses(other)
    if any_vhost:
        found, known = (
            frozenset(bus._replace(vhost="") for bus in each) for each in (found, known)
        )
    return bool(found & known)


# -- the three steps ---------------------------------------------------------------


def start(place: Place, plan: Plan) -> str | None:
    """The URL with which a service uses both buses; None if it has no part.

    :raises ServiceConfigError: its old bus is not known
    """
    stage, new, old, _ = place.buses
    if stage is Stage.FOREIGN:
        return None
    if stage is Stage.NEW:
        old = former(place, plan)
    assert old is not None
    to = place.url
    if stage is Stage.BOTH and new is not None and not _prefers(place, new):
        # the bus that it leaves is the one that it has been moving to
        to = urls.parse(new)
    return str(urls.moving(to, old))


def finish(place: Place, plan: Plan) -> str | None:
    """The URL with which a service uses the new bus alone.

    :raises ServiceConfigError: it is on the old bus alone
    """
    stage, new, _, _ = place.buses
    if stage is Stage.OLD:
        raise ServiceConfigError(
            place.target.path,
            "is only on the old bus, and its service would no longer reach others "
            "there: first run `hybrid-messaging migrate start`, and restart it",
        )
    return new


def undo(place: Place, plan: Plan) -> str | None:
    """The URL with which a service uses the old bus alone.

    :raises ServiceConfigError: it is on the new bus alone; or it prefers a bus that
        would keep what is sent to it meanwhile
    """
    stage, new, old, _ = place.buses
    path = place.target.path
    if stage is Stage.NEW:
        raise ServiceConfigError(
            path,
            "is only on the new bus, and its service would no longer reach others "
            "there: first run `hybrid-messaging migrate start`, and restart all "
            "services",
        )
    prefers_new = new is not None and _prefers(place, new)
    if prefers_new and (
        plan.notifications or isinstance(servers.get(urls.parse(new or "")), Rabbit)
    ):
        raise ServiceConfigError(
            path,
            "is on both buses and prefers the new one, which keeps what is sent while "
            "a service restarts: first have it prefer the old one. Run "
            "`hybrid-messaging migrate start` with the URL of the old bus in "
            "HYBRID_RPC_URL (HYBRID_NOTIFY_URL with --notifications), restart all "
            "services, and run `hybrid-messaging migrate finish` with it",
        )
    return old


def _prefers(place: Place, bus: str) -> bool:
    """Whether a service on both buses sends over this one first."""
    return str(urls.destination(urls.parse(place.text or ""))) == bus


def former(place: Place, plan: Plan) -> str:
    """The old bus of a file that has left it: as given, or as `finish` has noted.

    :raises ServiceConfigError: it is not known
    """
    text = plan.old or (None if plan.notifications else place.document.value(*_MIGRATE))
    if not text or of_url(text, place.url, drivers=plan.drivers).old is None:
        raise ServiceConfigError(
            place.target.path,
            "is only on the new bus, and does not name the old one: set HYBRID_OLD_URL "
            "to its URL",
        )
    return text


# -- all files ---------------------------------------------------------------------

Step = Callable[[Place, Plan], str | None]


def rewrites(targets: Sequence[Target], plan: Plan, step: Step) -> list[Rewrite]:
    """Work out the new content of files, without writing any.

    Notifications that have no transport of their own stay where they are.

    :raises ServiceConfigError: one of the files cannot be read or changed, or cells
        of Nova would come to share a virtual host
    """
    found: dict[str, Rewrite] = {}
    places: list[Place] = []
    for target in targets:
        source = read_to_change(target.path)
        if str(source.path) in found:
            continue
        place = look(target, plan)
        places.append(place)
        text = step(place, plan)
        after = Document(source.data, target.path)
        if text is not None:
            _move(after, place, text)
        rpc = _parsed(after.value(*_RPC))
        found[str(source.path)] = Rewrite(
            target.path,
            place.service,
            source,
            Document(source.data, target.path),
            after,
            rpc,
            _parsed(after.value(*_NOTIFY)) or rpc or plan.new,
            author(after),
        )
    _keep_apart(places)
    return list(found.values())


def _move(document: Document, place: Place, text: str) -> None:
    """Give a transport its URL.

    RPC does not take notifications along that have no transport of their own, and
    leaves a note of the way back.
    """
    old = place.buses.old
    if place.option == _RPC and old and text not in (place.text, old):
        if not document.value(*_NOTIFY):
            document.set(*_NOTIFY, old)
        if urls.parse(text).driver != urls.MIGRATE:
            document.set(*_MIGRATE, old)
    document.set(*place.option, text)


def _parsed(text: str | None) -> urls.TransportURL | None:
    try:
        return urls.parse(text or "")
    except urls.UrlError:
        return None


def _keep_apart(places: Sequence[Place]) -> None:
    """Refuse to bring cells of one service to one virtual host that had several."""
    first: dict[tuple[str, str], Place] = {}
    for place in places:
        old = _parsed(place.buses.old)
        if old is None:
            continue
        key = place.service.name, str(place.url)
        other = first.setdefault(key, place)
        its = _parsed(other.buses.old)
        assert its is not None
        if (old.vhost or "/") != (its.vhost or "/"):
            raise ServiceConfigError(
                place.target.path,
                f"is on virtual host {old.vhost or '/'!r} of the old bus and "
                f"{other.target.path} on {its.vhost or '/'!r}, and they would share "
                "one of the new bus: keep them apart with --keep-vhosts, or name one "
                "for each as FILE=VHOST",
            )


def warnings(rewrite: Rewrite, all: Sequence[Rewrite], plan: Plan) -> Iterator[str]:
    """What the operator should know although a file can be written.

    :param all: the files that are rewritten together
    """
    place = look(Target(rewrite.path), plan)
    if place.buses.stage is Stage.FOREIGN:
        yield f"{rewrite.path}: left as it is: {place.buses.reason}"
        return
    yield from rewriting.of_file(rewrite, all, _with_tool)


def _with_tool(tool: Author) -> str:
    return f"have {tool.name} write the same URL"
