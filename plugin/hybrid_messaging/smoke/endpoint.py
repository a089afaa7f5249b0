# SPDX-License-Identifier: Apache-2.0
"""What the servers of a run do when they are called."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from oslo_messaging import rpc


class SmokeError(Exception):
    """Raised by a server on request, to see it arrive at the caller."""


class Endpoint:
    """The methods of a server.

    :param name: the server's name, part of every answer
    :param tell: reports an event to the process with the clients
    """

    def __init__(self, name: str, tell: Callable[..., None]) -> None:
        self._name = name
        self._tell = tell

    def echo(
        self, context: dict[str, Any], data: str, seconds: float = 0.0
    ) -> dict[str, str]:
        """Answer after a while, with what came and with the name of the server."""
        time.sleep(seconds)
        return {"server": self._name, "data": data}

    def note(self, context: dict[str, Any], token: str) -> None:
        """Tell that it has been called: nothing else comes back from a cast."""
        self._tell("noted", token=token)

    @rpc.expected_exceptions(SmokeError)
    def fail(self, context: dict[str, Any], text: str) -> None:
        """Raise an exception that the caller knows."""
        raise SmokeError(text)

    def work(self, context: dict[str, Any], token: str, seconds: float) -> str:
        """Tell that it has begun, and answer only after a while."""
        self._tell("working", token=token)
        time.sleep(seconds)
        return self._name
