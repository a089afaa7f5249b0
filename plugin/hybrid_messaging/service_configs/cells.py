# SPDX-License-Identifier: Apache-2.0
"""Nova's cell mappings: the RPC URLs that Nova keeps in its API database.

nova-api, the scheduler and the superconductor reach a cell through the URL in
the table `cell_mappings` (nova/objects/cell_mapping.py), whatever nova.conf
says, so it has to follow nova.conf.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from hybrid_messaging import urls

_CELL0 = "00000000-0000-0000-0000-000000000000"


class DatabaseUnread(Exception):
    """The cell mappings could not be read, for the reason in the text."""


class Mapping(NamedTuple):
    """One row of the table, its URLs as they are stored."""

    uuid: str
    name: str
    transport_url: str
    database_connection: str


class NovaFile(NamedTuple):
    """What cells are recognised by in one of Nova's files.

    URLs are as oslo.config returns them; `former_url` is the RPC URL that was
    there before `transport_url`.
    """

    path: Path
    transport_url: str
    former_url: str
    database: str | None
    api_database: str | None


class Cell(NamedTuple):
    """A cell mapping, and the file that its cell is configured by.

    :param url: as Nova uses it, with its passwords
    :param file: the file
    :param command: has the mapping lead where the file does
    """

    name: str
    url: str
    file: NovaFile
    command: str


class Outdated(NamedTuple):
    """A cell mapping that does not lead where it should, and its cure."""

    name: str
    transport_url: str
    command: str


def read_mappings(connection: str) -> list[Mapping]:
    """The cells of an API database, without cell0, which has no messages.

    :param connection: SQLAlchemy URL, the option [api_database] connection
    :raises DatabaseUnread: SQLAlchemy or its driver is not installed here, or
        the database does not answer
    """
    try:
        import sqlalchemy
    except ImportError as error:
        raise DatabaseUnread(
            "SQLAlchemy is not installed in the environment of this command"
        ) from error
    query = sqlalchemy.text(
        "SELECT uuid, name, transport_url, database_connection FROM cell_mappings"
    )
    try:
        engine = sqlalchemy.create_engine(connection)
        try:
            with engine.connect() as database:
                rows = [Mapping(*map(str, row)) for row in database.execute(query)]
        finally:
            engine.dispose()
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        # it may repeat the URL, also one that is mistyped
        reason = str(error).replace(connection, urls.HIDDEN).partition("\n")[0]
        raise DatabaseUnread(urls.redact(reason)) from error
    return [row for row in rows if row.uuid != _CELL0]


def outdated(files: Sequence[NovaFile]) -> list[Outdated]:
    """The cells whose mapping does not lead where their file does.

    :param files: Nova's files on this machine
    :raises DatabaseUnread: the mappings could not be read
    """
    return [
        Outdated(cell.name, urls.shown(cell.url), cell.command)
        for cell in known(files)
        if _parsed(cell.url) != _parsed(cell.file.transport_url)
    ]


def known(files: Sequence[NovaFile]) -> list[Cell]:
    """The cells that are configured on this machine.

    A cell belongs to the file with the same database, else to that with the
    same RPC URL. Cells that are configured on other machines are not judged.

    :param files: Nova's files on this machine
    :raises DatabaseUnread: the mappings could not be read
    """
    main = next((file for file in files if file.api_database), None)
    if main is None or main.api_database is None:
        raise DatabaseUnread("none of these files names Nova's API database")
    mappings = read_mappings(main.api_database)
    found = []
    for mapping in mappings:
        file = _file_of(mapping, files)
        if file is None and len(mappings) == 1:
            file = main
        if file is not None:
            command = update_command(
                main.path, file.path, mapping.uuid, _database_option(mapping, file)
            )
            url = _filled_in(mapping.transport_url, main.transport_url)
            found.append(Cell(mapping.name, url, file, command))
    return found


def update_command(main: Path, path: Path, uuid: str, *options: str) -> str:
    """The command that gives a cell the URL that stands in its file.

    nova-manage takes RPC URL and database from the last file that has them.

    :param main: the file that names the API database
    :param path: the cell's file
    """
    files = [f"--config-file {shlex.quote(str(file))}" for file in (main, path)]
    words = ["nova-manage", *dict.fromkeys(files), "cell_v2 update_cell"]
    return " ".join([*words, f"--cell_uuid {uuid}", *filter(None, options)])


def _database_option(mapping: Mapping, file: NovaFile) -> str:
    """What keeps nova-manage from taking the cell's database from the file, too."""
    connection = mapping.database_connection
    if connection == file.database:
        return ""
    if urls.shown(connection) != connection:
        connection = "as shown by `nova-manage cell_v2 list_cells --verbose`"
    return f"--database_connection {shlex.quote(connection)}"


def _file_of(mapping: Mapping, files: Sequence[NovaFile]) -> NovaFile | None:
    for file in files:
        if file.database == mapping.database_connection:
            return file
    stored = _parsed(mapping.transport_url)
    for file in files:
        if stored in (_parsed(file.former_url), _parsed(file.transport_url)):
            return file
    return None


def _parsed(url: str) -> urls.TransportURL | None:
    try:
        return urls.parse(url)
    except urls.UrlError:
        return None


def _filled_in(url: str, default: str) -> str:
    """A mapping's URL as Nova uses it: it may be a template for nova.conf's parts.

    The parts are those of `CellMapping._format_url`.
    """
    parts = urlsplit(default)
    known = {
        "scheme": parts.scheme,
        "path": parts.path.lstrip("/"),
        "query": parts.query,
        "fragment": parts.fragment,
    }
    for number, netloc in enumerate(["", *parts.netloc.split(",")]):
        host = urlsplit(f"//{netloc or parts.netloc}")
        for name in ("username", "password", "hostname", "port"):
            known[f"{name}{number or ''}"] = getattr(host, name)
    try:
        return url.format(**known)
    except (KeyError, IndexError, ValueError):
        return url
