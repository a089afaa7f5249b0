# SPDX-License-Identifier: Apache-2.0
"""What oslo.messaging calls of a driver: the entry of all three, guarded here once."""

from __future__ import annotations

import abc
import time
from typing import Any, NamedTuple

from oslo_messaging.target import Target

from hybrid_messaging.drivers import bodies, errors, forks, oslo, reentry


class Request(NamedTuple):
    """What a service sends, as oslo.messaging gives it to a driver."""

    target: Target
    context: Any
    message: dict[str, Any]
    wait_for_reply: bool | None
    #: seconds
    timeout: float | None
    call_monitor_timeout: float | None
    retry: int | None
    transport_options: Any
    #: monotonic time
    began: float

    @property
    def where(self) -> str:
        """Its target, for people."""
        return described(self.target)


def described(target: Target) -> str:
    """A target, for people."""
    parts = ("exchange", "topic", "server")
    named = ((part, getattr(target, part)) for part in parts)
    return ", ".join(f"{part} {name}" for part, name in named if name)


class Driver(oslo.BaseDriver):
    """Refuses what interrupts a driver, and notices forks, before a driver is entered.

    Drivers implement the methods with an underscore. All others that send, start or
    stop something are here, as oslo.messaging's `_drivers/base.py` prescribes them.
    """

    def __init__(
        self,
        conf: Any,
        url: Any,
        default_exchange: str | None = None,
        allowed_remote_exmods: list[str] | None = None,
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._set_up()
        forks.register(self)

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
        try:
            return self._send(request)
        except bodies.MalformedBody as error:
            raise errors.ReplyMalformed(
                f"RPC call to {request.where} over {self._url.transport}: the answer is"
                f" not a valid reply: {error}"
            ) from error

    def send_notification(
        self,
        target: Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        reentry.refuse_to_send()
        forks.notice()
        self._send_notification(target, ctxt, message, version, retry)

    @reentry.changes
    def listen(
        self, target: Target, batch_size: int, batch_timeout: float | None
    ) -> oslo.Listener:
        forks.notice()
        # targets are mutable
        return self._listen(target(), batch_size, batch_timeout)

    @reentry.changes
    def listen_for_notifications(
        self,
        targets_and_priorities: list[tuple[Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> oslo.Listener:
        forks.notice()
        return self._listen_for_notifications(
            targets_and_priorities, pool, batch_size, batch_timeout
        )

    @reentry.changes
    def cleanup(self) -> None:
        forks.notice()
        self._close()

    # -- what a driver implements ------------------------------------------------

    @abc.abstractmethod
    def _set_up(self) -> None:
        """Read the options.

        :raises ConfigurationError: the URL or an option is wrong
        """

    @abc.abstractmethod
    def _send(self, request: Request) -> Any:
        """Send a call, cast or fanout; return the value of the reply to a call.

        :raises MalformedBody: the reply is none
        """

    @abc.abstractmethod
    def _send_notification(self, *args: Any, **kwargs: Any) -> None:
        """Do what `send_notification` says."""

    @abc.abstractmethod
    def _listen(self, *args: Any, **kwargs: Any) -> oslo.Listener:
        """Do what `listen` says."""

    @abc.abstractmethod
    def _listen_for_notifications(self, *args: Any, **kwargs: Any) -> oslo.Listener:
        """Do what `listen_for_notifications` says."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Let go of everything."""

    @abc.abstractmethod
    def after_fork(self) -> None:
        """In a child: leave to the parent what is the parent's."""
