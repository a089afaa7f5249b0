# SPDX-License-Identifier: Apache-2.0
"""Do notifications wait for their consumer?"""

from __future__ import annotations

import oslo_messaging

from hybrid_messaging.smoke.context import CALL_TIMEOUT, Context
from hybrid_messaging.smoke.outcome import Failure, Success

#: Attempts to publish again, where the broker is not there at once.
RETRY = 2
#: What a service's configuration may name that puts notifications on a transport.
PUBLISHING = {"messaging", "messagingv2", "routing"}

_SECTION = "oslo_messaging_notifications"


def stored(context: Context) -> Success:
    """Publish a notification that nobody listens for."""
    run = context.run
    drivers = context.conf[_SECTION].driver
    if run.settings is not None and not PUBLISHING & set(drivers):
        raise Failure(
            f"the service publishes no notifications: [{_SECTION}] driver is "
            f"{', '.join(drivers) or 'not set'}",
            f"set [{_SECTION}] driver = messagingv2, as `hybrid-messaging configure` "
            "does",
        )
    bus = context.notify.transport
    bus.prepare(run)
    transport = oslo_messaging.get_notification_transport(
        context.conf, url=run.notify_url
    )
    try:
        notifier = oslo_messaging.Notifier(
            transport,
            publisher_id=run.topic,
            driver="messagingv2" if run.settings is None else None,
            topics=[run.notify_topic],
            retry=RETRY,
        )
        if bus.drops_first:
            notifier.info({}, _first(context), {})
        notifier.info({}, run.topic, {"token": run.token})
        # the notifier logs what goes wrong instead of raising it
        if error := context.records.error():
            raise Failure(f"{type(error).__name__}: {error}") from error
    finally:
        transport.cleanup()
    waiting = bus.waiting(run)
    if waiting == 0:
        raise Failure(f"it was published, but {run.notify_queue} is empty")
    if waiting is None:
        return Success(
            "it was published; whether it was stored shows when it is delivered"
        )
    plural = "s" if waiting > 1 else ""
    return Success(f"{run.notify_queue} holds {waiting} notification{plural}")


def restart(context: Context) -> Success:
    """Restart the broker while it stores the notification."""
    context.restart(context.notify)
    return Success(
        f"{context.notify.transport.title} was restarted, and is ready again"
    )


def delivered(context: Context) -> Success:
    """Listen for the notification, in another process."""
    run = context.run
    listener = context.servers.any()
    listener.tell("listen")
    found = listener.wait("notified", CALL_TIMEOUT, type=run.topic)
    if found is None:
        raise Failure(f"no notification arrived within {CALL_TIMEOUT:g} s of listening")
    if found["payload"] != {"token": run.token}:
        raise Failure(f"it arrived with another payload: {found['payload']}")
    if listener.wait("notified", 0, type=run.topic):
        raise Failure("it arrived twice")
    detail = "another process received it once and unchanged"
    if context.notify.transport.drops_first and not listener.wait(
        "notified", 0, type=_first(context)
    ):
        detail += (
            "; the one before it was lost: oslo.messaging's driver drops the first"
            " that waits for a listener"
        )
    return Success(detail)


def _first(context: Context) -> str:
    """Type of the notification that goes before the one that counts."""
    return f"{context.run.topic}-first"
