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

from collections.abc import Callable
from typing import Any

from oslo_messaging.exceptions import ConfigurationError
from oslo_messaging.target import Target
from oslo_messaging.transport import TransportURL

from hybrid_messaging.drivers import driver, logs, oslo, reentry
from hybrid_messaging.drivers.migrate import options as migrate_options
from hybrid_messaging.drivers.migrate.buses import Bus, Request, open_bus
from hybrid_messaging.drivers.migrate.listening import BothListener, Half
from hybrid_messaging.drivers.migrate.sending import Sender

LOG = logs.get(__name__)

_OWN = frozenset(option.dest for option in migrate_options.OPTIONS)


class MigrateDriver(driver.Driver):
    """oslo.messaging over two buses.

    Their drivers are entered as a service would enter them: not from within this one.
    """

    def _set_up(self) -> None:
        conf, url = self.conf, self._url
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
            open_bus(conf, each, self._default_exchange, self._allowed_remote_exmods)
            for each in (to_url, from_url)
        )
        self._sender = Sender(self._new, self._old, options.restart_timeout)

    def require_features(self, requeue: bool = False) -> None:
        """See that consumers of notifications can give back what they cannot store."""
        for bus in (self._new, self._old):
            bus.notifying.require_features(requeue=requeue)

    def _send(self, request: driver.Request) -> Any:
        if request.target.fanout:
            self._sender.fan_out(Request(*request))
            return None
        return self._sender.send(Request(*request))

    def _send_notification(self, *notification: Any) -> None:
        """Send it over the new bus: consumers read both until the old one is empty."""
        self._new.notifying.send_notification(*notification)

    def _listen(self, target: Target, *batch: Any) -> oslo.Listener:
        return self._listen_on_both(
            lambda bus: bus.driver.listen(target, *batch), *batch, is_rpc=True
        )

    def _listen_for_notifications(self, *args: Any) -> oslo.Listener:
        return self._listen_on_both(
            lambda bus: bus.notifying.listen_for_notifications(*args),
            *args[-2:],  # those of batches
            is_rpc=False,
        )

    def _listen_on_both(
        self,
        listen: Callable[[Bus], oslo.Listener],
        batch_size: int,
        batch_timeout: float | None,
        *,
        is_rpc: bool,
    ) -> oslo.Listener:
        def half(bus: Bus) -> Half:
            # what a consumer of notifications has taken, it has yet to acknowledge
            left_over = bus.left_over if is_rpc else None
            return Half(bus.name, lambda: listen(bus), left_over)

        return reentry.outside(
            BothListener, half(self._old), half(self._new), batch_size, batch_timeout
        )

    def _close(self) -> None:
        self._sender.close()
        try:
            reentry.outside(self._new.close)
        finally:
            reentry.outside(self._old.close)

    def after_fork(self) -> None:
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
