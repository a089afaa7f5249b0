# SPDX-License-Identifier: Apache-2.0
"""Work out how services' files have to change, and what has to follow."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs import cells, replace, settings, strays
from hybrid_messaging.service_configs.catalogue import Service
from hybrid_messaging.service_configs.deployment_tools import tools
from hybrid_messaging.service_configs.deployment_tools.rendered import Author, author
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import overriding
from hybrid_messaging.service_configs.reading import ServiceConfig, load
from hybrid_messaging.service_configs.services import (
    as_configured,
    identify,
    refuse_bystander,
)
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.source import Source, read, read_to_change
from hybrid_messaging.service_configs.transports import Transports


class Target(NamedTuple):
    """A file to rewrite, and the virtual host of its RPC where one was asked for."""

    path: Path
    vhost: str | None = None


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """How one file is to change.

    `before` and `after` are the file's options; `rpc` is None for a service
    that has no RPC. `author` is who will write the file again, if that shows.
    """

    path: Path
    service: Service
    source: Source
    before: Document
    after: Document
    rpc: urls.TransportURL | None
    notify: urls.TransportURL
    author: Author | None = None

    @property
    def data(self) -> bytes:
        return self.after.dump()

    @property
    def changes(self) -> bool:
        return self.data != self.source.data


def plan(
    targets: Sequence[Target], transports: Transports, keep_vhosts: bool = False
) -> list[Rewrite]:
    """Work out the new content of files, without writing any.

    :param keep_vhosts: a file whose RPC has a virtual host of its own keeps it,
        unless another one is asked for
    :raises ServiceConfigError: one of the files cannot be read or understood,
        or cells of Nova would come to share a virtual host
    """
    rewrites: dict[Path, Rewrite] = {}
    asked: dict[Path, str | None] = {}
    for path, vhost in targets:
        source = read_to_change(path)
        if source.path in rewrites:
            if asked[source.path] != vhost:
                raise ServiceConfigError(path, "is given twice, with two virtual hosts")
            continue
        asked[source.path] = vhost
        before = Document(source.data, path)
        if vhost is None and keep_vhosts:
            vhost = _vhost(before)
        rewrites[source.path] = _rewrite(path, source, before, transports, vhost)
    plans = list(rewrites.values())
    _keep_cells_apart([item for item in plans if asked[item.source.path] is None])
    return plans


def _rewrite(
    path: Path,
    source: Source,
    before: Document,
    transports: Transports,
    vhost: str | None,
) -> Rewrite:
    service = as_configured(identify(path), [before])
    refuse_bystander(service, before)
    rpc = transports.rpc
    if is_over_rpc(service, before) and not servers.get(transports.notify).no_rpc:
        rpc, service = transports.notify, service._replace(rpc=True)
    elif vhost is not None:
        rpc = dataclasses.replace(rpc, vhost=vhost)
    after = Document(source.data, path)
    notify = settings.apply(after, service, rpc, transports.notify)
    if after.value(*strays.AUDIT):
        after.set(*strays.AUDIT, str(notify))
    return Rewrite(
        path,
        service,
        source,
        before,
        after,
        rpc if service.rpc else None,
        notify,
        author(before),
    )


def _former(
    document: Document, section: str, key: str = "transport_url"
) -> urls.TransportURL | None:
    """The transport URL that stands in a file, if it is one."""
    try:
        return urls.parse(document.value(section, key) or "")
    except urls.UrlError:
        return None


def _vhost(document: Document) -> str | None:
    """A virtual host that is not the default one."""
    url = _former(document, "DEFAULT")
    return url.vhost if url and url.vhost != "/" else None


def _keep_cells_apart(rewrites: Sequence[Rewrite]) -> None:
    """Refuse to put files of one service on one virtual host that had several.

    Nova's cells have the same exchange and topics: on one virtual host they
    would take each other's messages.
    """
    first: dict[tuple[str, str], Rewrite] = {}
    for rewrite in rewrites:
        if rewrite.rpc is None or _former(rewrite.before, "DEFAULT") is None:
            continue
        other = first.setdefault((rewrite.service.name, str(rewrite.rpc)), rewrite)
        mine, its = _vhost(rewrite.before), _vhost(other.before)
        if mine != its:
            raise ServiceConfigError(
                rewrite.path,
                f"its RPC uses virtual host {mine or '/'!r}, and RPC of {other.path}"
                f" uses {its or '/'!r}, but now they would share one: keep them apart"
                " with --keep-vhosts, or name one for each as FILE=VHOST",
            )


def warnings(rewrite: Rewrite, rewrites: Sequence[Rewrite]) -> Iterator[str]:
    """What the operator should know although a file can be written.

    :param rewrites: all the files that are rewritten together
    """
    path = rewrite.path
    yield from of_file(rewrite, rewrites, _with_tool)
    if rewrite.after.find("notification", "messaging_urls"):
        yield (
            f"{path}: [notification] messaging_urls decides where the notification "
            "agent listens; it must contain the notification transport"
        )
    yield from _elsewhere(rewrite)
    if rewrite.changes and _stays(rewrite):
        yield (
            f"{path}: notifications stay on the RabbitMQ and virtual host that this"
            " file already used, where queues may exist that are not durable; find"
            " them with `hybrid-messaging check`"
        )


def of_file(
    rewrite: Rewrite, rewrites: Sequence[Rewrite], cure: Callable[[Author], str]
) -> Iterator[str]:
    """What the operator should know of the file itself, whatever is to change in it.

    :param rewrites: all the files that are rewritten together
    :param cure: what to do if a tool writes the file
    """
    path = rewrite.path
    if rewrite.after.has_bom:
        yield (
            f"{path}: starts with a byte order mark, which oslo.config cannot read; "
            "remove the first three bytes"
        )
    line = rewrite.after.first_line_not_utf8
    if line is not None:
        yield (
            f"{path}, line {line}: is not UTF-8: a service in a UTF-8 locale cannot "
            "read this file; convert it with iconv"
        )
    rewritten = {item.source.path for item in rewrites}
    for file, certain in overriding(path, rewrite.service).items():
        if read(file).path not in rewritten:
            yield (
                f"{file}: {'overrides' if certain else 'may override'} the transports"
                f" of {path}; configure it as well, or remove these options from it"
            )
    if replace.edited_since(rewrite.source):
        yield (
            f"{path}: has been edited since it was last configured, so --restore will"
            f" refuse it; the original is {replace.backup_of(rewrite.source.path)}"
        )
    yield from _undone(rewrite, rewrites, cure)
    if path.name in rewrite.service.guests:
        yield (
            f"{path}: copied to guests, which must reach the servers by the names in"
            " it, and need the driver for RPC in their images; running guests keep the"
            " file that they were started with"
        )


def _undone(
    rewrite: Rewrite, rewrites: Sequence[Rewrite], cure: Callable[[Author], str]
) -> Iterator[str]:
    """Said once for all files of a tool: it writes them again, as they were."""
    tool = rewrite.author
    if tool is None or not rewrite.changes:
        return
    same = [item for item in rewrites if item.author == tool and item.changes]
    if rewrite is not same[0]:
        return
    more = f" and {len(same) - 1} more" if same[1:] else ""
    its = "these files" if more else "this file"
    yield (
        f"{rewrite.path}{more}: {tool.name} writes {its}, and will undo this when it"
        f" next runs: {cure(tool)}"
    )


def _with_tool(tool: Author) -> str:
    """How a tool is to write the same."""
    if not tool.tool:
        return "give it the URLs of `hybrid-messaging urls` as well"
    where = "" if tool.tool == tool.name else f"with {tool.tool}, "
    return (
        f"{where}set {tools.variables(tool.tool)} as well; `hybrid-messaging "
        f"urls --for {tool.tool}` prints them"
    )


def _elsewhere(rewrite: Rewrite) -> Iterator[str]:
    """Notifications that do not go the way of the others, or did not before."""
    path, service = rewrite.path, rewrite.service
    former = rewrite.before.value(*strays.AUDIT) or ""
    if not strays.buses(former) <= _notified(rewrite.before):
        yield (
            f"{path}: [{strays.AUDIT[0]}] {strays.AUDIT[1]} led to"
            f" {strays.named(strays.buses(former))}, and now follows all other"
            " notifications: move its consumers, too"
        )
    usual = strays.buses(str(rewrite.notify))
    for item in strays.further((rewrite.after,)):
        theirs = strays.buses(item.text)
        if not theirs & usual:
            yield (
                f"{item.where}: {item.what} publishes to {strays.named(theirs)}, but"
                f" other notifications go to {strays.named(usual)}; change it as well"
            )
    over = service.over_rpc
    if over and is_over_rpc(service, rewrite.after):
        rpc = strays.buses(rewrite.after.value("DEFAULT", "transport_url") or "")
        uses = f"{over.what} {'listens' if over.listens else 'publishes'} on it"
        if rpc & usual:
            yield f"{path}: RPC uses the transport of notifications, because {uses}"
        else:
            yield (
                f"{path}: RPC uses a transport without notifications, but {uses}: "
                f"{'it receives none' if over.listens else 'nobody receives them'}"
            )


def is_over_rpc(service: Service, document: Document) -> bool:
    """Whether a service that `configure` has publish has notifications over RPC."""
    # see settings.apply
    from oslo_utils import strutils

    over = service.over_rpc
    return over is not None and (
        over.enabled is None or strutils.bool_from_string(document.value(*over.enabled))
    )


def _notified(document: Document) -> frozenset[strays.Bus]:
    """Where the notifications of a file go."""
    text = document.value(NOTIFICATIONS, "transport_url")
    return strays.buses(text or document.value("DEFAULT", "transport_url") or "")


def _stays(rewrite: Rewrite) -> bool:
    """Whether notifications go where the messages of this file went before."""
    place = rewrite.service.place(NOTIFICATIONS, "transport_url")
    former = _former(rewrite.before, place.section, place.key) or _former(
        rewrite.before, "DEFAULT"
    )
    notify = servers.get(rewrite.notify)
    return (
        former is not None
        and isinstance(notify, Rabbit)
        and bool(servers.get(former).servers & notify.servers)
        and (former.vhost or "/") == (rewrite.notify.vhost or "/")
    )


def next_steps(rewrites: Sequence[Rewrite]) -> list[str]:
    """What has to follow, now that the files say something else."""
    steps = _cell_steps(list(nova_files(rewrites)))
    if any(item.changes for item in rewrites):
        names = dict.fromkeys(item.service.name for item in rewrites if item.changes)
        steps.append(f"restart all services of {', '.join(names)}")
        above = {
            os.path.realpath(path)
            for item in rewrites
            for path in overriding(item.path, item.service)
        }
        mains = [item.path for item in rewrites if str(item.source.path) not in above]
        files = " ".join(shlex.quote(str(path)) for path in mains)
        steps.append(f"hybrid-messaging check {files}")
    return steps


def steps_back(restored: Sequence[tuple[Path, str | None]]) -> list[str]:
    """What has to follow, now that the files say again what they said before.

    :param restored: each file, and the RPC URL that it had until now
    """
    names = dict.fromkeys(identify(path).name for path, _ in restored)
    nova = [item for item in restored if identify(item[0]).name == "nova"]
    files = []
    for path, rpc in nova:
        with contextlib.suppress(ServiceConfigError):
            config = load([path])
            files.append(_nova_file(path, config, config.rpc_url, rpc or ""))
    return [*_cell_steps(files), f"restart all services of {', '.join(names)}"]


def rpc_urls(paths: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """The RPC URLs that files name now, for `steps_back`."""
    return [
        (path, Document(read(path).data, path).value("DEFAULT", "transport_url"))
        for path in paths
    ]


def _cell_steps(files: Sequence[cells.NovaFile]) -> list[str]:
    """Commands that make Nova's cell mappings follow."""
    if not files:
        return []
    try:
        return [f"run {cell.command}" for cell in cells.outdated(files)]
    except cells.DatabaseUnread as error:
        return _cell_advice([file.path for file in files], error)


def _cell_advice(paths: Sequence[Path], reason: Exception) -> list[str]:
    main = next((path for path in paths if path.name == "nova.conf"), None)
    if main is None:
        return []  # a compute node: its cell's mapping is changed elsewhere
    own = [path for path in paths if path.name.startswith("nova_cell")] or [main]
    commands = " or ".join(cells.update_command(main, path, "UUID") for path in own)
    return [
        "Nova's database also has the RPC URL of every cell, and could not be read"
        f" ({reason}): see nova-manage --config-file {main} cell_v2 list_cells",
        f"for each cell but cell0, run {commands}",
    ]


def nova_files(rewrites: Sequence[Rewrite]) -> Iterator[cells.NovaFile]:
    """Nova's files among others, as their cells are recognised by them."""
    for item in rewrites:
        if item.service.name == "nova":
            # warnings() has told what cannot be read
            with contextlib.suppress(ServiceConfigError):
                config = load([item.source.path], service=item.service)
                yield _nova_file(item.path, config, str(item.rpc), config.rpc_url)


def _nova_file(
    path: Path, config: ServiceConfig, rpc: str, former: str
) -> cells.NovaFile:
    return cells.NovaFile(
        path,
        rpc,
        former,
        config.own_option("database", "connection"),
        config.own_option("api_database", "connection"),
    )
