# SPDX-License-Identifier: Apache-2.0
"""Large messages, handed to qpid-proton in pieces.

With every frame, qpid-proton moves all that is left of what it has been given, and
it keeps the memory of the largest piece.

A delivery whose first piece leaves before its last is there cannot be sent as settled
from its first frame on. AMQP 1.0 (part 2, section 2.7.5) lets a later frame settle it,
but RabbitMQ detaches the link then. So it stays unsettled until the peer settles it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hybrid_messaging.protocol.proton_c import lib

#: The largest frame that we accept, in bytes; larger messages are split.
MAX_FRAME = 32 * 1024
#: Bytes of a message that qpid-proton is given at a time.
PIECE = 4 * MAX_FRAME


class _Rest:
    """A delivery, and where its next piece begins."""

    __slots__ = ("at", "data", "delivery", "settled")

    def __init__(self, delivery: Any, data: bytes, settled: bool) -> None:
        self.delivery = delivery
        self.data = data
        self.at = 0
        self.settled = settled


class Pieces(deque[_Rest]):
    """The deliveries of one link of which qpid-proton has not seen everything yet.

    :param link: qpid-proton's link
    """

    __slots__ = ("_link",)

    def __init__(self, link: Any) -> None:
        super().__init__()
        self._link = link

    @property
    def size(self) -> int:
        """The bytes that qpid-proton has not been given."""
        return sum(len(rest.data) - rest.at for rest in self)

    def add(self, delivery: Any, data: bytes, settled: bool) -> None:
        """Queue a whole message."""
        self.append(_Rest(delivery, data, settled))

    def go_on(self) -> bool:
        """Hand over the next piece, if the last one has left; return whether it was."""
        if not self:
            return False
        rest = self[0]
        if lib.pn_delivery_pending(rest.delivery) >= MAX_FRAME:
            return False
        piece = rest.data[rest.at : rest.at + PIECE]
        lib.pn_link_send(self._link, piece, len(piece))
        rest.at += len(piece)
        if rest.at == len(rest.data):
            self.popleft()
            # one that went out in one piece may be settled from its first frame on
            complete(self._link, rest.delivery, rest.settled and rest.at <= PIECE)
        return True

    def abort(self, delivery: Any) -> bool:
        """Send no more of a delivery; False: qpid-proton has all of it."""
        for rest in self:
            if rest.delivery == delivery:
                self.remove(rest)
                lib.pn_delivery_abort(delivery)
                return True
        return False

    def abort_all(self) -> None:
        """Send no more of any delivery."""
        for rest in self:
            lib.pn_delivery_abort(rest.delivery)
        self.clear()


def complete(link: Any, delivery: Any, settled: bool) -> None:
    """qpid-proton has been given all of a delivery."""
    if settled:
        lib.pn_delivery_settle(delivery)
    else:
        lib.pn_link_advance(link)
