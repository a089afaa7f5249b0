# SPDX-License-Identifier: Apache-2.0
"""The address `$management`: what the router does, told in AMQP management's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_messaging.protocol.endpoint import ACCEPTED, Delivery
from hybrid_messaging.router.addresses import Address

if TYPE_CHECKING:
    from hybrid_messaging.router.server import Router


class Management(Address):
    """The address that answers questions about the router."""

    distribution = "closest"
    shared = False

    def __init__(self, router: Router) -> None:
        super().__init__("$management")
        self._router = router

    @property
    def reachable(self) -> bool:
        return True

    def forward(self, data: bytes, origin: Delivery | None) -> bool:
        if origin is not None:
            origin.link.context.settle(origin, ACCEPTED)
        return True
