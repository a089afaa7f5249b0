# SPDX-License-Identifier: Apache-2.0
"""The `migrate` driver as oslo.messaging calls it.

URL form:  migrate+URL[?from_url=URL…]

Both URLs are transport URLs of `amqp`, `zmq` or `rabbit`, or of `kafka` where they are
for notifications. The first is the new bus, `from_url` the old one, percent-encoded in
the query. The other options in the query are those of [oslo_messaging_migrate] and of
the new bus' driver.

Servers listen on both buses. Clients send to the new bus where somebody listens on
their target, and else to the old one. Fanouts go to both. What answers a request goes
over the bus that has brought it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from oslo_messaging.exceptions import ConfigurationError
from oslo_messaging.target import Target
from oslo_messaging.transport import TransportURL

from hybrid_messaging.drivers import forks, logs, oslo, reentry
from hybrid_messaging.drivers.migrate import options as migrate_options
from hybrid_messaging.drivers.migrate.buses import Bus, Request, open_bus
from hybrid_messaging.drivers.migrate.listening import BothListener, Half
from hybrid_messaging.drivers.migrate.sending import Sender

LOG = logs.get(__name__)

_OWN = frozenset(option.dest for option in migrate_options.OPTIONS)


class MigrateDriver(oslo.BaseDriver):
    """oslo.messaging over two buses.

    Source of the contract: oslo.messaging, `_drivers/base.py`.
    """

    def __init__(
        self,
        conf: Any,
        url: TransportURL,
        default_exchange: str | None = None,
        allowed_remote_exmods: list[str] | None = None,
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        own = {name: value for name, value in url.query.items() if name in _OWN}
        rest = {name: value for name, value in url.query.items() if name not in _OWN}
        options = oslo.read_options(
            conf,
            TransportURL(conf, query=own),
            migrate_options.GROUP,
            migrate_options.OPTIONS,
        )
        _, _, transport = url.transport.partition("+")
        to_url = TransportURL(conf, transport, url.virtual_host, url.hosts, rest)
        from_url = _parse(conf, options.from_url)
        self._new: Bus
        self._old: Bus
        self._new, self._old = (
            open_bus(conf, each, default_exchange, allowed_remote_exmods)
            for each in (to_url, from_url)
        )
        self._sender = Sender(self._new, self._old, options.restart_timeout)
        forks.register(self)

    def require_features(self, requeue: bool = False) -> None:
        """See that consumers of notifications can give back what they cannot store."""
        for bus in (self._new, self._old):
            bus.notifying.require_features(requeue=requeue)

    def send(
        self,
        target: Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        reentry.refuse_to_send()
        forks.notice()
        request = Request(
            target,
            ctxt,
            message,
            wait_for_reply,
            timeout,
            call_monitor_timeout,
            retry,
            transport_options,
            time.monotonic(),
        )
        if target.fanout:
            self._sender.fan_out(request)
            return None
        return self._sender.send(request)

    def send_notification(
        self,
        target: Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        """Send it over the new bus: consumers read both until the old one is empty."""
        notifying = self._new.notifying
        notifying.send_notification(target, ctxt, message, version, retry=retry)

    def listen(
        self, target: Target, batch_size: int, batch_timeout: float | None
    ) -> oslo.Listener:
        return self._listen(
            lambda bus: bus.driver.listen(target, batch_size, batch_timeout),
            batch_size,
            batch_timeout,
            is_rpc=True,
        )

    def listen_for_notifications(
        self,
        targets_and_priorities: list[tuple[Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> oslo.Listener:
        return self._listen(
            lambda bus: bus.notifying.listen_for_notifications(
                targets_and_priorities, pool, batch_size, batch_timeout
            ),
            batch_size,
            batch_timeout,
            is_rpc=False,
        )

    def _listen(
        self,
        listen: Callable[[Bus], oslo.Listener],
        batch_size: int,
        batch_timeout: float | None,
        is_rpc: bool,
    ) -> oslo.Listener:
        forks.notice()

        def half(bus: Bus) -> Half:
            # what a consumer of notifications has taken, it has yet to acknowledge
            left_over = bus.left_over if is_rpc else None
            return Half(bus.name, lambda: listen(bus), left_over)

        return BothListener(half(self._old), half(self._new), batch_size, batch_timeout)

    def cleanup(self) -> None:
        forks.notice()
        self._sender.close()
        try:
            self._new.close()
        finally:
            self._old.close()

    def after_fork(self) -> None:
        """In a child: leave to the parent what is the parent's."""
        self._sender.renew()
        for bus in (self._new, self._old):
            bus.after_fork()


def _parse(conf: Any, url: str | None) -> TransportURL:
    """:raises ConfigurationError: it is none; what stands in it is not shown"""
    if not url:
        raise ConfigurationError(
            "a migrate+ URL lacks the bus to move away from: give it an option from_url"
            " with the percent-encoded URL of that, or set"
            f" [{migrate_options.GROUP.name}] from_url"
        )
    try:
        if "://" in url:
            return TransportURL.parse(conf, url)
    except Exception as error:  # whatever urllib and netutils raise
        LOG.debug("from_url: %s", type(error).__name__)
    raise ConfigurationError(
        "from_url is no transport URL: in a query, it has to be percent-encoded"
    )
