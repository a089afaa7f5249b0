# SPDX-License-Identifier: Apache-2.0
"""Why a message did not get through: one exception per cause.

Services know two exceptions of oslo.messaging. Around a call they catch
`MessagingTimeout`: there is no answer, the server may be away, slow or dead. They
ask again, or go on without. Around a cast they catch `MessageDeliveryFailure`. Health
probes catch both around a call, and take `MessageDeliveryFailure` for "the bus is
down", in which case they leave the service alone. So:

* A call that nobody answers is a `MessagingTimeout`, and no
  `MessageDeliveryFailure`: the bus is well. A cast that nobody takes is the reverse.
* Without a bus, both are both.
* What would be refused again is never a `MessagingTimeout`, which invites services
  to try again.
"""

from oslo_messaging.exceptions import (
    MessageDeliveryFailure,
    MessageUndeliverable,
    MessagingException,
    MessagingTimeout,
)


class DeliveryError(MessagingException):
    """A message did not get through."""


class TargetUnreachable(DeliveryError, MessageUndeliverable):
    """Nobody listens on the target; the message has not been seen by anyone.

    `MessageUndeliverable` is what services expect that send with
    `TransportOptions(at_least_once=True)`; its attributes are None, for they are
    of AMQP 0-9-1.
    """

    def __init__(self, text: str) -> None:
        super().__init__(exception=None, exchange=None, routing_key=None, message=None)
        # what an exception without a constructor of its own would keep
        self.args = (text,)


class CallUnreachable(TargetUnreachable, MessagingTimeout):
    """Nobody listens on the target of a call."""


class CastUnreachable(TargetUnreachable, MessageDeliveryFailure):
    """Nobody listens on the target of a cast."""


class ServersBusy(DeliveryError):
    """Nobody who listens had room for the message in time; it is not executed."""


class CallUntaken(ServersBusy, MessagingTimeout):
    """Nobody had room for a call."""


class CastUntaken(ServersBusy, MessageDeliveryFailure):
    """Nobody had room for a cast."""


class ServerLost(DeliveryError):
    """The server that had the message is gone; it may have acted on it."""


class CallLost(ServerLost, MessagingTimeout):
    """The server that had a call is gone."""


class CastLost(ServerLost, MessageDeliveryFailure):
    """The server that had a cast is gone."""


class CastUnconfirmed(DeliveryError, MessageDeliveryFailure):
    """The server that has a cast has not confirmed it in time."""


class FanoutIncomplete(DeliveryError, MessageDeliveryFailure):
    """Some who listen could not be reached in time; the others have the message."""


class BusLost(DeliveryError, MessageDeliveryFailure, MessagingTimeout):
    """The connection broke, or was closed, while the message was under way.

    Its fate is unknown.
    """


class BusUnavailable(DeliveryError, MessageDeliveryFailure, MessagingTimeout):
    """There is no connection to the bus; the message has not been sent."""


class ReplyMalformed(DeliveryError):
    """The server has answered with something that is no reply."""


class MessageRefused(DeliveryError, MessageDeliveryFailure):
    """The bus, the server or the driver has refused the message."""


class Reentered(MessageRefused):
    """A signal handler or a finalizer has interrupted the driver, and uses it."""


#: by cause: what it is for a call, and for everything else
_KINDS: dict[type[DeliveryError], tuple[type[DeliveryError], type[DeliveryError]]] = {
    TargetUnreachable: (CallUnreachable, CastUnreachable),
    ServersBusy: (CallUntaken, CastUntaken),
    ServerLost: (CallLost, CastLost),
}


def make(cause: type[DeliveryError], is_call: bool, text: str) -> DeliveryError:
    """Make the exception that callers expect.

    :param cause: why the message did not get through
    :param is_call: somebody waits for a reply to it
    :param text: what happened, for people
    """
    of_call, of_other = _KINDS.get(cause, (cause, cause))
    return (of_call if is_call else of_other)(text)
