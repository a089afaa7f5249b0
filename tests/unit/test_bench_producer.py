# SPDX-License-Identifier: Apache-2.0
"""What a producer makes of messages that cannot be sent."""

from __future__ import annotations

import oslo_messaging
import pytest
from oslo_config import cfg

from hybrid_messaging.bench.producer import Unsent


def test_a_notification_that_is_only_logged_has_failed() -> None:
    """oslo.messaging's notifier raises nothing, whatever becomes of a notification."""
    transport = oslo_messaging.get_notification_transport(cfg.ConfigOpts(), "fake://")
    notifier = oslo_messaging.Notifier(
        transport, publisher_id="p", driver="messagingv2", topics=["t"]
    )
    unsent = Unsent()
    try:
        unsent.told(notifier.info, {}, "event", {"fine": 1})
        with pytest.raises(ValueError):
            unsent.told(notifier.info, {}, "event", {"nothing for JSON": object()})
        unsent.told(notifier.info, {}, "event", {"fine": 2})
    finally:
        unsent.close()
    notifier.info({}, "event", {"nothing for JSON": object()})
