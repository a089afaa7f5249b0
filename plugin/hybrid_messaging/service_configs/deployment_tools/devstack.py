# SPDX-License-Identifier: Apache-2.0
"""DevStack: our plugin takes the URLs, and gives them to every service."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from hybrid_messaging.service_configs.deployment_tools.parts import Part
from hybrid_messaging.service_configs.transports import Transports

VARIABLES = "HYBRID_RPC_URL and HYBRID_NOTIFY_URL in local.conf"


def parts(transports: Transports) -> Iterator[Part]:
    """What goes into its files; see `deployment_tools`."""
    yield Part(
        "local.conf",
        "[[local|localrc]]\n"
        "HYBRID=external\n"
        f"HYBRID_RPC_URL={shlex.quote(str(transports.rpc))}\n"
        f"HYBRID_NOTIFY_URL={shlex.quote(str(transports.notify))}\n",
        ("Put this below the line enable_plugin hybrid-messaging.",),
    )
