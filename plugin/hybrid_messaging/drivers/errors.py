# SPDX-License-Identifier: Apache-2.0
"""Why a message did not get through: one exception per cause.

Services catch either `MessageDeliveryFailure` or `MessagingTimeout` around a
call; each of these is both, so that failing early does not slip past code
that was written for a driver that could only time out.
"""

from oslo_messaging import exceptions


class DeliveryError(exceptions.MessageDeliveryFailure, exceptions.MessagingTimeout):
    """A message did not get through."""


class TargetUnreachable(DeliveryError, exceptions.MessageUndeliverable):
    """Nobody listens on the target; the message has not been seen by anyone.

    `MessageUndeliverable` is what services expect that send with
    `TransportOptions(at_least_once=True)`; its attributes are None, for they are
    of AMQP 0-9-1.
    """

    def __init__(self, text: str) -> None:
        super().__init__(exception=None, exchange=None, routing_key=None, message=None)
        # what an exception without a constructor of its own would keep
        self.args = (text,)


class ServerLost(DeliveryError):
    """The server that had the message is gone; it may have acted on it."""


class BusLost(DeliveryError):
    """The connection broke while the message was under way, its fate is unknown."""


class BusUnavailable(DeliveryError):
    """There is no connection to the bus; the message has not been sent."""


class ReplyMalformed(DeliveryError):
    """The server has answered with something that is no reply."""


class MessageRefused(DeliveryError):
    """The bus or the server has refused the message."""
