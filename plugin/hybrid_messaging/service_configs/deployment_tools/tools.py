# SPDX-License-Identifier: Apache-2.0
"""Settings of any deployment tool, by its name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.service_configs import deployment_tools
from hybrid_messaging.service_configs.deployment_tools.parts import Part, complete
from hybrid_messaging.service_configs.transports import TransportError, Transports

#: Schemes whose drivers are ours.
_OURS = ("amqp", "zmq")
#: Hosts of which no tool's syntax takes a character for its own.
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")


def variables(tool: str) -> str:
    """Which of a tool's variables decide on transports, for a sentence."""
    text: str = _module(tool).VARIABLES
    return text


def parts(tool: str, transports: Transports, hidden: bool = False) -> Sequence[Part]:
    """What has to be in the files of a tool.

    :param tool: one of `deployment_tools.NAMES`
    :param transports: what services are to use; a host without a port gets the usual
        one, since templates and health probes want one
    :param hidden: without passwords
    :raises TransportError: a host has a name that no tool can take
    """
    for url in (transports.rpc, transports.notify):
        for host in url.hosts:
            if not _HOST.fullmatch(host.host):
                raise TransportError(
                    f"{urls.shown(str(url))}: {tool} does not accept this host name"
                )
    written = urls.HiddenURL if hidden else urls.TransportURL
    transports = Transports(
        complete(transports.rpc, written), complete(transports.notify, written)
    )
    found: list[Part] = list(_module(tool).parts(transports))
    notes = []
    if hidden:
        notes.append(
            f"Passwords are hidden as {urls.HIDDEN}; --show-passwords shows them."
        )
    ours = {url.driver for url in (transports.rpc, transports.notify)} & set(_OURS)
    if ours:
        schemes = " and ".join(f"{scheme}://" for scheme in sorted(ours))
        notes.append(f"Install hybrid-messaging wherever services use {schemes}.")
    found[0] = found[0]._replace(notes=(*notes, *found[0].notes))
    return found


def _module(tool: str) -> Any:
    return importlib.import_module(
        f"{deployment_tools.__name__}.{tool.replace('-', '_')}"
    )
