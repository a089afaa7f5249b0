# SPDX-License-Identifier: Apache-2.0
"""Messages of which not everything has arrived."""

from __future__ import annotations

from typing import Any

from hybrid_messaging.protocol.proton_c import lib


class Reassembly(dict[Any, bytearray]):
    """What has been read of the incomplete deliveries of a connection."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        super().__init__()
        #: bytes of all of them
        self.size = 0

    def add(self, delivery: Any, data: bytes) -> None:
        """More of a delivery has been read."""
        part = self.setdefault(delivery, bytearray())
        part += data
        self.size += len(data)

    def take(self, delivery: Any) -> bytes:
        """What has been read of a delivery, which is not kept any longer."""
        data = bytes(self.pop(delivery, b""))
        self.size -= len(data)
        return data

    def drop_link(self, link: Any) -> None:
        """Forget the deliveries of a link."""
        for delivery in list(self):
            if lib.pn_delivery_link(delivery) == link:
                self.size -= len(self.pop(delivery))
