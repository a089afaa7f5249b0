# SPDX-License-Identifier: Apache-2.0
"""Read a service's configuration as the service does: with oslo.config."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from oslo_config import cfg

from hybrid_messaging import urls
from hybrid_messaging.servers import options
from hybrid_messaging.servers.transport import Transport
from hybrid_messaging.service_configs.catalogue import Service
from hybrid_messaging.service_configs.document import Document, Option
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import (
    Layer,
    default_directories,
    fragments_of,
    layers,
    packaged,
)
from hybrid_messaging.service_configs.services import (
    as_configured,
    identify,
    refuse_bystander,
)
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.source import read

#: Notification drivers that put nothing on a transport.
_SILENT = {"", "noop", "log", "test"}
#: Characters that options which refer to others may have in all, references included.
_LONGEST = 50_000


class Unknown(NamedTuple):
    """An option whose value refers to one that only the service knows."""

    section: str
    key: str
    name: str


@dataclass(frozen=True)
class ServiceConfig:
    """What one service reads: its files, in order, and what they amount to.

    `rpc_url` and `notify_url` are the URLs in effect, with passwords.

    :param documents: what the service was said to be started with
    :param conf: all that it reads
    :param beneath: what its package has it read before
    :param layers: what its programs read after that, where the files alone were named
    :param unknown: options whose values are not known here
    """

    service: Service
    documents: tuple[Document, ...]
    conf: cfg.ConfigOpts
    beneath: tuple[Document, ...] = ()
    layers: tuple[Layer, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @cached_property
    def rpc_url(self) -> str:
        return self.conf.transport_url

    @cached_property
    def notify_url(self) -> str:
        """oslo.messaging falls back to RPC's URL if there is none, or an empty one."""
        return self.conf[NOTIFICATIONS].transport_url or self.rpc_url

    def where(self, section: str, key: str) -> str:
        """The file and line that decide on an option, else the service's main file."""
        place = self.service.place(section, key)
        for document in reversed((*self.beneath, *self.documents)):
            found = document.find(place.section, place.key)
            if found:
                return f"{document.path}, line {found[-1].start + 1}"
        return self.documents[0].path

    def is_set(self, section: str, key: str) -> bool:
        """Whether any of the files sets an option."""
        place = self.service.place(section, key)
        return any(
            document.find(place.section, place.key)
            for document in (*self.beneath, *self.documents)
        )

    @property
    def publishes(self) -> bool:
        """Whether one of the notification drivers puts something on a transport."""
        return not set(self.conf[NOTIFICATIONS].driver) <= _SILENT

    def is_unknown(self, section: str, key: str) -> bool:
        """Whether an option's value depends on one that only the service knows."""
        return any((section, key) == item[:2] for item in self.unknown)

    def own_option(self, section: str, key: str, multi: bool = False) -> Any:
        """An option that the service has registered: a string, or a list of them.

        None if it is not set, or oslo.config cannot tell, as where it refers to an
        option that only the service knows.
        """
        option = (cfg.MultiStrOpt if multi else cfg.StrOpt)(key)
        try:
            if _Expansion(self.documents).length_of(section, key) > _LONGEST:
                return None
            self.conf.register_opt(option, group=section)
            return self.conf[section][key]
        except (cfg.Error, RecursionError):
            return None

    def setting(self, section: str, key: str, value: str) -> str:
        """How an option of a driver is set for this service."""
        if self.service.places:
            return f"add {key}={value} to the query of the URL"
        return f"set [{section}] {key} = {value}"

    def origin(self, url: urls.TransportURL) -> str | None:
        """The URL of the bus that a service moves away from, '' if none is named.

        :param url: one that the service uses
        :returns: None if it is not that of a migration
        """
        if url.driver != urls.MIGRATE:
            return None
        return urls.origin(url) or self.conf.oslo_messaging_migrate.from_url or ""

    def transport(self, url: urls.TransportURL) -> Transport:
        """A transport as the service uses it.

        :raises ValueError: the URL has an option that the driver does not take
        """
        return options.transport(self.conf, url)


def load(
    files: Sequence[Path],
    config_dirs: Sequence[Path] | None = None,
    service: Service | None = None,
) -> ServiceConfig:
    """Read the files that one service is started with.

    :param files: as with --config-file, later ones override earlier ones
    :param config_dirs: as with --config-dir; None: the default directory of
        each file (nova.conf.d beside nova.conf) if there is one
    :param service: whose files they are; default: judged by their names
    :raises ServiceConfigError: the service could not read them either
    """
    service = service or identify(files[0])
    documents = [_document(path) for path in files]
    refuse_bystander(service, documents[0])
    beneath: list[Document] = []
    above: list[Layer] = []
    if config_dirs is None:
        directories = default_directories(files)
        beneath = [_document(path) for path in packaged(files[0])]
        above = list(layers(files[0], service))
    else:
        directories = list(config_dirs)
        for directory in directories:
            if not directory.is_dir():
                raise ServiceConfigError(directory, "is not a directory")
    for directory in directories:
        documents += [_document(path) for path in fragments_of(directory)]
    service = as_configured(service, documents)
    everything = [*beneath, *documents]
    conf = cfg.ConfigOpts()
    with _understood(documents[0].path):
        # This program's own environment must not leak in (OS_DEFAULT__TRANSPORT_URL).
        conf(
            args=[],
            project=files[0].stem,
            default_config_files=[
                *(document.path for document in beneath),
                *map(str, files),
            ],
            default_config_dirs=[str(path) for path in directories],
            use_env=False,
        )
        options.register(conf)
        _bound(conf, everything)
        assigned = [option for _, option in _messaging_options(conf, everything)]
        own = _register_references(conf, service, everything)
        _bound(conf, everything)
        _validate(conf, everything)
        _take_from_places(conf, service, everything)
    return ServiceConfig(
        service,
        tuple(documents),
        conf,
        tuple(beneath),
        tuple(above),
        tuple(_unknown(assigned, everything, own)),
    )


@contextlib.contextmanager
def _understood(path: str, option: Option | None = None) -> Iterator[None]:
    """Turn what oslo.config objects to into a sentence about a file.

    :param option: what is being read of it
    """
    what, line = ("", None) if option is None else (option.key, option.start + 1)
    try:
        yield
    except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError, RecursionError) as error:
        raise ServiceConfigError(
            path,
            f"{what or 'an option'} refers to itself, or to a name that oslo.config"
            " cannot find; write its value there",
            line,
        ) from error
    except (cfg.Error, ValueError) as error:
        reason = urls.redact(str(error).rpartition("is not valid: ")[2])
        raise ServiceConfigError(path, f"{what}: {reason}", line) from error


def _document(path: Path) -> Document:
    document = Document(read(path).data, path)
    if document.has_bom:
        raise ServiceConfigError(
            path,
            "the file starts with a byte order mark, which oslo.config takes for text,"
            " so the service cannot read it; remove the first three bytes",
            1,
        )
    line = document.first_line_not_utf8
    if line is not None:
        raise ServiceConfigError(
            path,
            "the file is not UTF-8, so a service in a UTF-8 locale cannot read it;"
            " convert it with iconv",
            line,
        )
    return document


def _messaging_options(
    conf: cfg.ConfigOpts, documents: Sequence[Document]
) -> Iterator[tuple[Document, Option]]:
    """Every assignment in the files that oslo.messaging or a driver looks at."""
    for document in documents:
        for option in document.options:
            if _is_registered(conf, option.section, option.key):
                yield document, option


def _reference(option: Option, name: str) -> str:
    """What an option refers to; in front of a host, it may be part of a password."""
    in_front, sign, _ = option.value.rpartition("@")
    return "another option" if sign and name in in_front else f"${name}"


def _is_registered(conf: cfg.ConfigOpts, section: str, key: str) -> bool:
    if section == "DEFAULT":
        return key in conf
    group = section.lower()
    return group in conf and key in conf[group]


def _bound(conf: cfg.ConfigOpts, documents: Sequence[Document]) -> None:
    """See that all values together do not become too long."""
    expansion, length = _Expansion(documents), 0
    for document, option in _messaging_options(conf, documents):
        if "$" in option.value:
            length += expansion.length(option)
        if length > _LONGEST:
            raise ServiceConfigError(
                document.path,
                f"{option.key} refers to other options, and its expanded value exceeds"
                f" {_LONGEST:,} characters; write its value there",
                option.start + 1,
            )


def _register_references(
    conf: cfg.ConfigOpts, service: Service, documents: Sequence[Document]
) -> set[str]:
    """Make known what `$name` in the options of oslo.messaging refers to.

    These are options of the service, which registers them with defaults of its
    own; here only the values are known that a file sets.

    :returns: those that no file sets; references to them stay as they are
    """
    own: set[str] = set()
    open_ends = list(_messaging_options(conf, documents))
    while open_ends:
        document, option = open_ends.pop()
        for name in _references(option.value):
            places = _places(option, name)
            if any(_is_registered(conf, *place) for place in places):
                continue
            targets = [
                (candidate, found)
                for place in places
                for candidate in documents
                for found in candidate.find(*place)
            ]
            key = _default_key(name)
            if not targets and key in service.registers:
                conf.register_opt(cfg.StrOpt(key, default=f"$${key}"))
                own.add(key)
                continue
            if not targets:
                raise ServiceConfigError(
                    document.path,
                    f"{option.key} refers to {_reference(option, name)}, which these"
                    " files do not set, so only the service knows its value; write the"
                    " value here, or $$ for a dollar sign",
                    option.start + 1,
                )
            target = targets[0][1]
            group = None if target.section == "DEFAULT" else target.section.lower()
            conf.register_opt(cfg.StrOpt(target.key), group=group)
            open_ends += targets
    return own


def _unknown(
    options: Sequence[Option], documents: Sequence[Document], own: set[str]
) -> Iterator[Unknown]:
    """Those of a number of options that depend on options without a value here."""
    for option in options:
        seen: set[str] = set()
        found = [option] if own else []
        while found:
            referring = found.pop()
            for name in _references(referring.value):
                key = _default_key(name)
                if key in own:
                    yield Unknown(option.section, option.key, key)
                    found = []
                    break
                if name not in seen:
                    seen.add(name)
                    for place in _places(referring, name):
                        for document in documents:
                            found += document.find(*place)


def _references(value: str) -> Iterator[str]:
    for match in cfg.ConfigOpts.Template.pattern.finditer(value.replace(r"\$", "$$")):
        name = match["named"] or match["braced"]
        if name:
            yield name


def _places(option: Option, name: str) -> list[tuple[str, str]]:
    """Where oslo.config looks for what an option refers to: sections and keys.

    Exactly there: what it does not find, it looks for a second time, and so on each
    step of a chain of references, which doubles the time with each.
    """
    section, dot, key = name.partition(".")
    return [(section, key) if dot else (option.section, name), ("DEFAULT", name)]


def _default_key(name: str) -> str:
    """The key that a reference names if it is one to the section DEFAULT."""
    return name.removeprefix("DEFAULT.")


class _Expansion:
    """How long options become once oslo.config has put values in place of references.

    With each option that refers to another one twice, that doubles. References count as
    well, so that this also bounds how many there are.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._lengths: dict[tuple[str, str], int] = {}

    def length(self, option: Option) -> int:
        """Characters of a value and of all that it refers to, or too many."""
        total = len(option.value)
        for name in _references(option.value):
            total += max(self.length_of(*place) for place in _places(option, name))
            if total > _LONGEST:
                break
        return total

    def length_of(self, section: str, key: str) -> int:
        """The same, of the longest value that the files give an option."""
        known = self._lengths.get((section, key))
        if known is None:
            # what refers to itself is not for us to find
            self._lengths[section, key] = 0
            known = self._lengths[section, key] = max(
                (
                    self.length(option)
                    for document in self._documents
                    for option in document.find(section, key)
                ),
                default=0,
            )
        return known


def _take_from_places(
    conf: cfg.ConfigOpts, service: Service, documents: Sequence[Document]
) -> None:
    """Give options the values that a file of another kind has elsewhere."""
    for (section, key), place in service.places.items():
        values = [
            value
            for document in documents
            for value in document.values(place.section, place.key)
        ]
        value = values[-1] if values else place.default
        if value is not None:
            group = None if section == "DEFAULT" else section
            text = value.replace("$", "$$")
            many = isinstance((conf[group] if group else conf)[key], list)
            conf.set_override(key, [text] if many else text, group=group)


def _validate(conf: cfg.ConfigOpts, documents: Sequence[Document]) -> None:
    """Have every value converted, as the service will."""
    for document, option in _messaging_options(conf, documents):
        group = conf if option.section == "DEFAULT" else conf[option.section.lower()]
        with _understood(document.path, option):
            group[option.key]
