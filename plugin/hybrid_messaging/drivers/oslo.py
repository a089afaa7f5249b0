# SPDX-License-Identifier: Apache-2.0
"""The only module that imports oslo.messaging's driver interface.

`oslo_messaging._drivers` is declared private. What the drivers need of it is
named here, so that a change in a release of oslo.messaging is met in one place.
"""

from oslo_messaging._drivers.base import (
    BaseDriver,
    Listener,
    PollStyleListener,
    PollStyleListenerAdapter,
    RpcIncomingMessage,
    batch_poll_helper,
)
from oslo_messaging._drivers.common import (
    ConfigOptsProxy,
    deserialize_msg,
    deserialize_remote_exception,
    serialize_msg,
    serialize_remote_exception,
)

__all__ = [
    "BaseDriver",
    "ConfigOptsProxy",
    "Listener",
    "PollStyleListener",
    "PollStyleListenerAdapter",
    "RpcIncomingMessage",
    "batch_poll_helper",
    "deserialize_msg",
    "deserialize_remote_exception",
    "serialize_msg",
    "serialize_remote_exception",
]
