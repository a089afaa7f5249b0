# SPDX-License-Identifier: Apache-2.0
"""Work out how services' files have to change, and what has to follow."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging import urls
from hybrid_messaging.service_configs import cells, replace, settings
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.reading import load
from hybrid_messaging.service_configs.services import (
    Service,
    identify,
    overriding_fragments,
    refuse_bystander,
)
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.source import Source, read, read_to_change
from hybrid_messaging.service_configs.transports import Transports, is_rabbit, servers


class Target(NamedTuple):
    """A file to rewrite, and the virtual host of its RPC where one was asked for."""

    path: Path
    vhost: str | None = None


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """How one file is to change.

    `before` and `after` are the file's options; `rpc` is None for a service
    that has no RPC.
    """

    path: Path
    service: Service
    source: Source
    before: Document
    after: Document
    rpc: urls.TransportURL | None
    notify: urls.TransportURL

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
    service = identify(path)
    refuse_bystander(service, before)
    rpc = transports.rpc
    if vhost is not None:
        rpc = dataclasses.replace(rpc, vhost=vhost)
    after = Document(source.data, path)
    notify = settings.apply(after, service, rpc, transports.notify)
    return Rewrite(
        path, service, source, before, after, rpc if service.rpc else None, notify
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
                f"its RPC is on virtual host {mine or '/'!r} and that of {other.path} "
                f"on {its or '/'!r}, and now they would share one: keep them apart "
                "with --keep-vhosts, or name one for each as FILE=VHOST",
            )


def warnings(rewrite: Rewrite, rewrites: Sequence[Rewrite]) -> Iterator[str]:
    """What the operator should know although a file can be written.

    :param rewrites: all the files that are rewritten together
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
    for fragment in overriding_fragments(path):
        if read(fragment).path not in {item.source.path for item in rewrites}:
            yield (
                f"{fragment}: overrides what {path} says about transports; configure "
                "it as well, or remove these options from it"
            )
    if replace.edited_since(rewrite.source):
        yield (
            f"{path}: has been edited since it was configured last, so that --restore "
            f"will refuse; the original is {replace.backup_of(rewrite.source.path)}"
        )
    if rewrite.after.find("notification", "messaging_urls"):
        yield (
            f"{path}: [notification] messaging_urls decides where the notification "
            "agent listens; it must contain the notification transport"
        )
    if rewrite.changes and _stays(rewrite):
        yield (
            f"{path}: notifications stay on the RabbitMQ and virtual host that this "
            "file named before, where queues may exist that are not durable; "
            "`hybrid-messaging check` finds them"
        )


def _stays(rewrite: Rewrite) -> bool:
    """Whether notifications go where the messages of this file went before."""
    place = rewrite.service.place(NOTIFICATIONS, "transport_url")
    former = _former(rewrite.before, place.section, place.key) or _former(
        rewrite.before, "DEFAULT"
    )
    return (
        former is not None
        and is_rabbit(rewrite.notify)
        and bool(servers(former) & servers(rewrite.notify))
        and (former.vhost or "/") == (rewrite.notify.vhost or "/")
    )


def next_steps(rewrites: Sequence[Rewrite]) -> list[str]:
    """What has to follow, now that the files say something else."""
    steps = _cell_steps([item for item in rewrites if item.service.name == "nova"])
    if any(item.changes for item in rewrites):
        names = dict.fromkeys(item.service.name for item in rewrites if item.changes)
        steps.append(f"restart all services of {', '.join(names)}")
        files = " ".join(shlex.quote(str(item.path)) for item in rewrites)
        steps.append(f"hybrid-messaging check {files}")
    return steps


def _cell_steps(rewrites: Sequence[Rewrite]) -> list[str]:
    """Commands that make Nova's cell mappings follow."""
    files = [file for item in rewrites for file in _nova_file(item)]
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
        "Nova's database has the RPC URL of every cell, too, and was not read "
        f"({reason}): see nova-manage --config-file {main} cell_v2 list_cells",
        f"for each cell but cell0, run {commands}",
    ]


def _nova_file(rewrite: Rewrite) -> Iterator[cells.NovaFile]:
    try:
        config = load([rewrite.source.path], service=rewrite.service)
    except ServiceConfigError:
        return  # warnings() has told why
    yield cells.NovaFile(
        rewrite.path,
        str(rewrite.rpc),
        config.rpc_url,
        config.own_option("database", "connection"),
        config.own_option("api_database", "connection"),
    )
