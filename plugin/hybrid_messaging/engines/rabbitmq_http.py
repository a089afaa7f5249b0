# SPDX-License-Identifier: Apache-2.0
"""How a password travels to RabbitMQ's management: to that node, and nowhere else."""

from __future__ import annotations

import urllib.request
from typing import Any

from hybrid_messaging import tls


def opener(authorities: str | None) -> urllib.request.OpenerDirector:
    """What opens URLs of a node.

    A proxy of the user's environment is not asked: the nodes are near.

    :param authorities: as for `tls.client`; None without TLS
    :raises OSError: these cannot be read
    """
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler({}),
        _NoRedirects(),
    ]
    if authorities is not None:
        context = tls.client(authorities)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: urllib would take the password along."""

    def redirect_request(self, *_: Any) -> None:
        return None
