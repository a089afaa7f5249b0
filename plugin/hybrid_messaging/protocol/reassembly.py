# SPDX-License-Identifier: Apache-2.0
"""Messages of which not everything has arrived."""

from __future__ import annotations

from typing import Any

from hybrid_messaging.protocol.proton_c import lib


class Reassembly:
    """What has been read of the incomplete deliveries of a connection."""

    __slots__ = ("_parts", "size")

    def __init__(self) -> None:
        self._parts: dict[Any, bytearray] = {}
        #: bytes of all of them
        self.size = 0

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, delivery: Any, data: bytes) -> None:
        """More of a delivery has been read."""
        part = self._parts.setdefault(delivery, bytearray())
        part += data
        self.size += len(data)

    def take(self, delivery: Any) -> bytes:
        """What has been read of a delivery, which is not kept any longer."""
        data = bytes(self._parts.pop(delivery, b""))
        self.size -= len(data)
        return data

    def drop_link(self, link: Any) -> None:
        """Forget the deliveries of a link."""
        for delivery in list(self._parts):
            if lib.pn_delivery_link(delivery) == link:
                self.take(delivery)

    def clear(self) -> None:
        """Forget all of them."""
        self._parts.clear()
        self.size = 0
