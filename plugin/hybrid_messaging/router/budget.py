# SPDX-License-Identifier: Apache-2.0
"""How many bytes the router keeps for one peer, and how many it may."""

from __future__ import annotations

from collections.abc import Callable

from hybrid_messaging.protocol.endpoint import Endpoint

#: So many bytes may wait for one socket before no more messages are sent to it,
OUTPUT_BYTES = 4 * 1024 * 1024
#: and so many for credit of its consumers.
QUEUE_BYTES = 4 * 1024 * 1024
#: So many bytes of its producers may be held for busy consumers before no more
#: are read; the session's window stops the peer then.
HELD_BYTES = 8 * 1024 * 1024


class Budget:
    """What waits for a peer, and what of a peer waits for others.

    :param endpoint: paused while too much of the peer waits
    :param wake: called when there is something to write to the peer
    """

    __slots__ = ("_endpoint", "_held", "_queued", "awake", "full", "pending", "wake")

    def __init__(self, endpoint: Endpoint, wake: Callable[[], None]) -> None:
        self._endpoint: Endpoint | None = endpoint
        self.wake = wake
        #: that has been done already
        self.awake = False
        #: bytes that wait for the socket
        self.pending = 0
        #: they are more than may wait
        self.full = False
        self._queued = 0
        self._held = 0

    def sent(self, size: int) -> None:
        """A message of so many bytes has been handed to the endpoint."""
        self.pending += size
        if self.pending >= OUTPUT_BYTES:
            self.full = True
        if not self.awake:
            self.wake()

    def written(self, pending: int) -> bool:
        """So many bytes are left; return whether that makes room for the first time."""
        self.pending = pending
        relieved = self.full and pending < OUTPUT_BYTES
        if relieved:
            self.full = False
        return relieved

    @property
    def may_queue(self) -> bool:
        """More messages may wait for credit of this peer."""
        return self._queued < QUEUE_BYTES

    def queued(self, size: int) -> None:
        """So many bytes more, or less, wait for credit of this peer."""
        self._queued += size

    def hold(self, size: int) -> None:
        """So many bytes of this peer wait for a consumer."""
        self._held += size
        if self._held >= HELD_BYTES and self._endpoint is not None:
            self._endpoint.paused = True

    def release(self, size: int) -> None:
        """So many bytes of this peer wait no longer."""
        self._held -= size
        endpoint = self._endpoint
        if endpoint is not None and endpoint.paused and self._held < HELD_BYTES:
            endpoint.resume()

    def close(self) -> None:
        """Nothing will be read from the peer any more, nor forwarded to it."""
        self._endpoint = None
        self.wake = _nothing


def _nothing() -> None:
    pass
