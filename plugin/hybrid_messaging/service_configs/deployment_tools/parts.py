# SPDX-License-Identifier: Apache-2.0
"""What goes into a deployment tool's own files, and how it is written there."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

from hybrid_messaging import servers, urls
from hybrid_messaging.service_configs.catalogue import SERVICES
from hybrid_messaging.service_configs.transports import Transports

#: Services that have nothing but notifications.
WITHOUT_RPC = frozenset(service.name for service in SERVICES if not service.rpc)
_OVER_RPC = frozenset(service.name for service in SERVICES if service.over_rpc)

_WIDTH = 78


class Part(NamedTuple):
    """What goes into one file.

    :param file: its usual place
    :param settings: in the file's own syntax, in which # begins a comment
    :param notes: sentences for people
    """

    file: str
    settings: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = textwrap.wrap(
            self.file, _WIDTH, initial_indent="# ", subsequent_indent="#   "
        )
        for note in self.notes:
            head += textwrap.wrap(
                note,
                _WIDTH,
                initial_indent="# - ",
                subsequent_indent="#   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join([*head, self.settings])


def yaml(values: Mapping[str, Any], indent: str = "") -> str:
    """Settings as YAML, in which strings may be written as in JSON."""
    lines = ""
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += f"{indent}{key}:\n{yaml(value, indent + '  ')}"
        else:
            lines += f"{indent}{key}: {json.dumps(value)}\n"
    return lines


def ini(values: Mapping[str, Mapping[str, str]]) -> str:
    """Settings as oslo.config reads them, by section."""
    return "".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items())
        for section, each in values.items()
    )


def complete(
    url: urls.TransportURL, written: type[urls.TransportURL]
) -> urls.TransportURL:
    """The same URL with the port of each host.

    :param written: how it is to become text
    """
    known = servers.get(url)
    hosts = tuple(
        dataclasses.replace(host, port=host.port or known.port or None)
        for host in known.hosts
    )
    return written(url.scheme, hosts, url.vhost, url.query)


def rpc_of(service: str, transports: Transports) -> urls.TransportURL:
    """The RPC transport of a service.

    It is that of notifications for services that have some there as well.
    """
    shared = service in _OVER_RPC and not servers.get(transports.notify).no_rpc
    return transports.notify if shared else transports.rpc
