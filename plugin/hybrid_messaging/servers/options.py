# SPDX-License-Identifier: Apache-2.0
"""The options of drivers, and transports that have them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import oslo_messaging.opts
from oslo_config import cfg
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging import servers, state, urls
from hybrid_messaging.drivers import opts as driver_opts
from hybrid_messaging.drivers.oslo import url_options
from hybrid_messaging.servers.transport import Transport

_NO_GROUP = "DEFAULT"


def groups() -> list[tuple[str | None, list[cfg.Opt]]]:
    """The options of oslo.messaging and of our drivers, by their groups."""
    ours = [(group.name, options) for group, options in driver_opts.list_opts()]
    return [*oslo_messaging.opts.list_opts(), *ours]


def register(conf: cfg.ConfigOpts) -> None:
    """Make all of them known to a configuration."""
    for group, options in groups():
        conf.register_opts(options, group=group)


def defaults(conf: cfg.ConfigOpts | None = None, project: str = "") -> cfg.ConfigOpts:
    """Have all of them at their defaults.

    :param conf: takes them; default: a new one
    """
    conf = cfg.ConfigOpts() if conf is None else conf
    conf(
        args=[],
        project=project,
        default_config_files=[],
        default_config_dirs=[],
        use_env=False,
    )
    register(conf)
    return conf


def settings(conf: cfg.ConfigOpts) -> dict[str, dict[str, Any]]:
    """What a configuration has instead of defaults, by group and name."""
    usual = defaults()
    found: dict[str, dict[str, Any]] = {}
    for group, known in groups():
        for option in known:
            value = _group(conf, group)[option.dest]
            if value != _group(usual, group)[option.dest]:
                found.setdefault(group or _NO_GROUP, {})[option.dest] = value
    return found


def override(conf: cfg.ConfigOpts, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Have a configuration say what `settings` has found in another."""
    for group, values in settings.items():
        for name, value in values.items():
            conf.set_override(
                name, _literal(value), group=None if group == _NO_GROUP else group
            )


def _group(conf: cfg.ConfigOpts, group: str | None) -> Any:
    return conf if group is None else conf[group]


def _literal(value: Any) -> Any:
    """A value in which a dollar sign refers to no other option."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value


def of(conf: cfg.ConfigOpts, url: urls.TransportURL) -> Any:
    """A driver's options as it sees them: a URL's query overrides the files.

    :returns: None for a driver whose options are not known
    :raises ValueError: the query has what the driver does not take
    """
    known = servers.get(url)
    if known.group is None:
        return None
    options = [
        option
        for group, options in groups()
        for option in options
        if group == known.group
    ]
    try:
        own = url_options(conf, known.url, known.group, options)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    besides = conf[known.besides] if known.besides else {}
    return SimpleNamespace(**besides, **own)


def transport(
    conf: cfg.ConfigOpts, url: urls.TransportURL, engine: state.Engine | None = None
) -> Transport:
    """A transport with the options of its driver.

    :param engine: what `up` has started there, if it has
    :raises ValueError: see `of`
    """
    return servers.get(url, of(conf, url), engine)
