# SPDX-License-Identifier: Apache-2.0
"""The only module that imports oslo.messaging's driver interface.

`oslo_messaging._drivers` is declared private. What the drivers need of it is
named here, so that a change in a release of oslo.messaging is met in one place.
"""

from __future__ import annotations

import types
from importlib import metadata
from typing import Any

from oslo_config import cfg

try:
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
except ImportError as error:
    raise ImportError(
        f"oslo.messaging {metadata.version('oslo.messaging')} no longer has what the"
        f" drivers of hybrid-messaging {metadata.version('hybrid-messaging')} are built"
        f" on ({error}). They are tested with its releases 16 to 18: install one of"
        " these, or a newer hybrid-messaging."
    ) from error

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
    "read_options",
    "register_options",
    "serialize_msg",
    "serialize_remote_exception",
]


def register_options(conf: Any, group: cfg.OptGroup, options: list[cfg.Opt]) -> None:
    """Register the options of a group with a configuration."""
    # oslo.config keeps what is set in the group: one for each configuration
    conf.register_opts(options, group=cfg.OptGroup(group.name, group.title))


def read_options(
    conf: Any, url: Any, group: cfg.OptGroup, options: list[cfg.Opt]
) -> types.SimpleNamespace:
    """Register the options of a group, and return their values for a transport.

    They are a copy: asking oslo.config takes longer than encoding a message.

    :param url: oslo_messaging.TransportURL; the options in its query win
    """
    register_options(conf, group, options)
    values = ConfigOptsProxy(conf, url, group.name)[group.name]
    return types.SimpleNamespace(
        **{option.dest: values[option.dest] for option in options}
    )
