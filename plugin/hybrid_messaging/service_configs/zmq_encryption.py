# SPDX-License-Identifier: Apache-2.0
"""Whether a service's zmq:// is encrypted, and how, as far as its files tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hybrid_messaging import urls
from hybrid_messaging.drivers.zmq.names import is_loopback
from hybrid_messaging.service_configs import connecting
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.settings import ZMQ

_PASSWORD = "name a user and a password of Redis in the URL"  # noqa: S105
_OPTION = "plaintext_beyond_loopback"


class Encryption(NamedTuple):
    """What the driver makes of the options (`ZmqDriver`).

    :param text: how it is encrypted, for people
    :param refused: servers do not start, for want of keys
    :param waived: the option that does without counts
    """

    text: str
    refused: bool = False
    waived: bool = False


def of(url: urls.TransportURL, options: Any) -> Encryption:
    """Find out how a transport is encrypted.

    :param options: those of the driver
    """
    if options.zmq_key_directory:
        return Encryption(f"CURVE, keys in {options.zmq_key_directory}")
    if options.plaintext_beyond_loopback:
        return Encryption("plain text", waived=True)
    if "static" in (url.scheme.partition("+")[2], options.rpc_zmq_matchmaker):
        return Encryption("plain text, on the loopback interface only")
    tls = connecting.is_encrypted(url, options)
    password = bool(url.hosts and url.hosts[0].password)
    if is_loopback(options.rpc_zmq_bind_address) and not (password and tls):
        return Encryption("plain text, on the loopback interface only")
    if not password:
        return Encryption("no keys", refused=True)
    if tls or all(is_loopback(host.host) for host in url.hosts):
        return Encryption("CURVE, keys from the password")
    return Encryption("CURVE, keys from the password, which Redis gets without TLS")


def problems(
    config: ServiceConfig, found: Encryption, options: Any
) -> Iterator[Problem]:
    """What is wrong with that."""
    if found.refused:
        yield Problem(
            Severity.ERROR,
            "no-keys",
            f"servers do not start: to listen on {options.rpc_zmq_bind_address} they"
            " want keys, which are derived from the password of Redis, and there is"
            " none",
            f"{_PASSWORD}; or set [{ZMQ}] zmq_key_directory, or rpc_zmq_bind_address ="
            " 127.0.0.1 if all services are on this host",
            config.where(ZMQ, "rpc_zmq_bind_address"),
        )
    if found.waived:
        yield Problem(
            Severity.WARNING,
            "plain-text",
            "neither encryption nor authentication: everybody who reaches the port of a"
            " server can call it and read what others send",
            f"remove {_OPTION}, and {_PASSWORD} if there is none",
            config.where(ZMQ, _OPTION),
        )
