# SPDX-License-Identifier: Apache-2.0
"""From an oslo.messaging target to an address on the bus.

The forms are those of the retired amqp1 driver (oslo.messaging 14.9,
`_drivers/amqp1_driver/addressing.py`), so that both find each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

Service = Literal["rpc", "notify"]
Cast = Literal["multicast", "unicast", "anycast"]

#: Open's product of the brokers that know only legacy addresses.
LEGACY_PRODUCTS = frozenset({"qpid-cpp"})

#: Open's product of the routers that have links to others.
NETWORKED = frozenset({"skupper-router", "qpid-dispatch-router"})
#: Open's product of the peers that route and store nothing.
ROUTERS = NETWORKED | {"hybrid-messaging-router"}

#: Open's product of brokers that take only addresses of their own, and give none to
#: replies. With legacy addresses, an operator can choose prefixes for notifications.
FOREIGN_PRODUCTS = frozenset({"RabbitMQ"})
#: What to do about one of them.
ADVICE = "use a rabbit:// URL for it, or point amqp:// at an AMQP 1.0 router"

#: Bytes that an exchange, a topic or a server may have in its name, as on rabbit://.
LONGEST_NAME = 255


def refusal(target: Any) -> str | None:
    """Why a target cannot be addressed, in words; None if it can."""
    for part in ("exchange", "topic", "server"):
        name = getattr(target, part)
        if name is None:
            continue
        if not isinstance(name, str):
            return f"the name of the {part} is not a string: {name!r:.80}"
        try:
            size = len(name) if name.isascii() else len(name.encode())
        except UnicodeEncodeError:
            return f"the name of the {part} cannot be encoded as UTF-8: {name!r:.80}"
        if size > LONGEST_NAME:
            return (
                f"the name of the {part} {name!r:.40}… has {size} bytes,"
                f" the limit is {LONGEST_NAME}"
            )
    return None


def objection(options: Any, product: str | None) -> str | None:
    """Why a peer cannot be used, in words; None if it can.

    :param options: the [oslo_messaging_amqp] group
    :param product: `product` of the peer's Open properties, None if it has none
    """
    if product not in FOREIGN_PRODUCTS or options.addressing_mode == "legacy":
        return None
    return f"it is {product}, which does not support the addresses that amqp:// uses"


class Addressing:
    """The addresses of one virtual host, in the form that the peer understands.

    :param options: the [oslo_messaging_amqp] group
    :param product: `product` of the peer's Open properties, None if it has none
    :param vhost: virtual host that addresses carry, None for none
    :param default_exchange: for targets without one
    """

    def __init__(
        self,
        options: Any,
        product: str | None,
        vhost: str | None,
        default_exchange: str | None,
    ) -> None:
        # An unidentified peer is taken for a router or a modern broker: both
        # know routable addresses, while qpidd has always named itself.
        legacy = options.addressing_mode == "legacy" or (
            options.addressing_mode == "dynamic" and product in LEGACY_PRODUCTS
        )
        default = default_exchange or "openstack"
        self._exchanges: dict[Service, str] = {
            "rpc": options.default_rpc_exchange or default,
            "notify": options.default_notification_exchange or default,
        }
        self._vhost = vhost
        self._prefixes: Callable[[Service, Cast], str]
        if legacy:
            words = {
                "multicast": options.broadcast_prefix,
                "unicast": options.server_request_prefix,
                "anycast": options.group_request_prefix,
            }
            self._separator = "."
            self._broadcast_suffix: tuple[str, ...] = ("all",)
            self._prefixes = lambda service, cast: words[cast]
        else:
            services = {
                "rpc": options.rpc_address_prefix,
                "notify": options.notify_address_prefix,
            }
            casts = {
                "multicast": options.multicast_address,
                "unicast": options.unicast_address,
                "anycast": options.anycast_address,
            }
            self._separator = "/"
            self._broadcast_suffix = ()
            self._prefixes = lambda service, cast: f"{services[service]}/{casts[cast]}"

    def _join(
        self, service: Service, cast: Cast, target: Any, rest: Iterable[str]
    ) -> str:
        parts = (
            self._prefixes(service, cast),
            self._vhost,
            target.exchange or self._exchanges[service],
            target.topic,
            *rest,
        )
        return self._separator.join(part for part in parts if part)

    def multicast(self, target: Any, service: Service = "rpc") -> str:
        """Where a message to every listener of the topic goes."""
        return self._join(service, "multicast", target, self._broadcast_suffix)

    def is_multicast(self, address: str) -> bool:
        """Whether every listener of an address of RPC gets what goes there."""
        return address.startswith(self._prefixes("rpc", "multicast") + self._separator)

    def unicast(self, target: Any, service: Service = "rpc") -> str:
        """Where a message to the target's one server goes."""
        return self._join(service, "unicast", target, (target.server or "",))

    def anycast(self, target: Any, service: Service = "rpc") -> str:
        """Where a message to any one listener of the topic goes."""
        return self._join(service, "anycast", target, ())

    def resolve(self, target: Any, service: Service = "rpc") -> str:
        """Where a message to this target goes."""
        if target.fanout:
            return self.multicast(target, service)
        if target.server:
            return self.unicast(target, service)
        return self.anycast(target, service)
