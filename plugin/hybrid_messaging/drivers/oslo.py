# SPDX-License-Identifier: Apache-2.0
"""The only module that imports oslo.messaging's driver interface.

`oslo_messaging._drivers` is declared private. What the drivers need of it is
named here, so that a change in a release of oslo.messaging is met in one place.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from oslo_config import cfg
from oslo_messaging.exceptions import ConfigurationError

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
        f"oslo.messaging {metadata.version('oslo.messaging')} lacks what the drivers"
        f" of hybrid-messaging {metadata.version('hybrid-messaging')} need ({error})."
        " They are tested with releases 16 to 18: install one of these, or a newer"
        " hybrid-messaging."
    ) from error

__all__ = [
    "BaseDriver",
    "Listener",
    "PollStyleListener",
    "PollStyleListenerAdapter",
    "RpcIncomingMessage",
    "batch_poll_helper",
    "deserialize_msg",
    "deserialize_remote_exception",
    "left_over",
    "locked",
    "open_connection",
    "read_options",
    "register_options",
    "serialize_msg",
    "serialize_remote_exception",
    "url_options",
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
    :raises ConfigurationError: see `url_options`
    """
    register_options(conf, group, options)
    values = url_options(conf, url, group.name, options)
    return types.SimpleNamespace(
        **{option.dest: values[option.dest] for option in options}
    )


def url_options(conf: Any, url: Any, group: str, options: Iterable[cfg.Opt]) -> Any:
    """Return the values of a registered group for a transport.

    What stands in a query may be part of a password that is not percent-encoded, so
    that no error shows it.

    :param url: has a `query`, whose options win
    :param options: those of the group
    :raises ConfigurationError: the query has other options, or other values than these
        options take
    """
    known = {option.dest: option for option in options}
    for name, value in url.query.items():
        one = types.SimpleNamespace(query={name: value})
        try:
            ConfigOptsProxy(conf, one, group)
        except cfg.NoSuchOptError:
            shown = name if _NAME.fullmatch(name) and "@" not in value else "something"
            raise ConfigurationError(
                f"the query of the transport URL names {shown}, which is not an option"
                f" of [{group}]"
            ) from None
        except cfg.Error:  # what is wrong stands in a file
            raise
        except ValueError:
            wanted = f", expected {known[name].type}" if name in known else ""
            raise ConfigurationError(
                "the query of the transport URL has an invalid value for"
                f" {name}{wanted}"
            ) from None
    return ConfigOptsProxy(conf, url, group)[group]


#: What an option may be called.
_NAME = re.compile("[a-z][a-z0-9_]*")


def open_connection(driver: Any) -> Any:
    """Return a connection of oslo.messaging's `rabbit` driver, outside of its pool.

    This `impl_rabbit.Connection` has kombu's `connection`, gives signs of life in a
    separate thread, and has to be closed. All hosts are tried once.

    :param driver: the driver (`amqpdriver.AMQPDriverBase`)
    :raises Exception: there is no connection; any that kombu raises
    """
    pool = driver._connection_pool
    return pool.create(retry=max(0, len(pool.url.hosts) - 1))


def left_over(listener: Any) -> list[RpcIncomingMessage]:
    """Return what a listener of the `rabbit` driver has read and nobody has executed.

    Between its stop and the end of its connection, more may come in. It has been
    acknowledged, so that the broker will not deliver it to anybody else.

    :param listener: has been stopped and cleaned up; an adapter of `AMQPListener`
    """
    found: list[RpcIncomingMessage] = listener._poll_style_listener.incoming
    return found


def locked(connection: Any) -> contextlib.AbstractContextManager[Any]:
    """Keep the thread for signs of life from a connection of `open_connection`."""
    lock: contextlib.AbstractContextManager[Any] = connection._connection_lock
    return lock
