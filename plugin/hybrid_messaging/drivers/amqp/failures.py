# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection, in words for those who operate the bus."""

from __future__ import annotations

import ssl

from hybrid_messaging.drivers.amqp import security
from hybrid_messaging.drivers.amqp.addressing import ADVICE
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol.endpoint import Excessive

#: What a peer has done whose end of the connection has been closed.
CLOSED = "closed the connection"

#: What another host behind the same name does. The next attempt may know it.
UNVERIFIED = "presents different certificates on different connections"
#: Why a peer has not been told who we are.
NOTHING_OFFERED = (
    "it offers no usable SASL mechanism; it may accept passwords only over TLS: set"
    " ssl_ca_file or ssl"
)
#: What qpid-proton says of a peer that is silent for longer than idle_timeout.
_SILENCE = "local-idle-timeout expired"
#: Conditions that only repeat what has happened (AMQP 1.0, part 2, section 2.8.16).
_FORCED = "amqp:connection:forced"
_FRAMING = "amqp:connection:framing-error"
#: What qpid-proton says of a connection that ends within a frame or before the first.
_CUT_OFF = ("connection aborted", "no protocol header")


class ConnectionFailed(Exception):
    """A connection could not be made, or has ended, for the reason in the text."""


class AuthenticationFailed(ConnectionFailed):
    """One end does not accept who the other one says it is."""


class UnfitPeer(ConnectionFailed):
    """The peer speaks AMQP 1.0, and cannot carry what this driver sends."""


def of_system(error: OSError) -> str:
    """What the operating system says, as part of a sentence."""
    text = error.strerror or str(error) or "no reason given"
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def of_name(host: Host, error: OSError) -> ConnectionFailed:
    """Why the name of a host says nothing."""
    return ConnectionFailed(
        f"the name of {host} cannot be resolved ({of_system(error)})"
    )


def of_dialling(host: Host, error: OSError | None) -> ConnectionFailed:
    """Why no address of a host could be reached."""
    if error is None:
        return ConnectionFailed(f"the name of {host} resolves to no address")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _failure(
            host, f"presents a certificate that is not trusted ({error.verify_message})"
        )
    return _failure(host, f"does not answer ({of_system(error)})")


def of_silence(host: Host, seconds: float) -> ConnectionFailed:
    """A host accepts connections, but does not open them."""
    return _failure(
        host, f"did not complete the AMQP 1.0 handshake within {seconds:g} s"
    )


def of_authentication(
    host: Host, reason: str, offers_nothing: bool = False
) -> ConnectionFailed:
    """A host does not accept who we are.

    :param offers_nothing: it has no SASL mechanism that we have, and was told nothing
    """
    user = host.username or "(anonymous)"
    detail = f" ({NOTHING_OFFERED})" if offers_nothing else _detail(reason)
    return AuthenticationFailed(f"the router at {host} refuses user {user}{detail}")


def of_unfitness(host: Host, objection: str) -> ConnectionFailed:
    """A host is something else than the transport URL needs."""
    return UnfitPeer(f"{host} cannot be used: {objection}; {ADVICE}")


def of_excess(host: Host, error: Excessive) -> ConnectionFailed:
    """A host has sent more than is kept of it."""
    return of_ending(host, excess(error), "")


def excess(error: Excessive) -> str:
    """What such a peer has done."""
    return f"exceeded a limit ({error})"


def of_pause(seconds: float) -> ConnectionFailed:
    """The peer was not heard because nobody listened."""
    return ConnectionFailed(f"this process was suspended for {seconds:.0f} s")


def is_silence(reason: str) -> bool:
    """Whether an endpoint has ended because its peer was silent."""
    return _SILENCE in reason


def of_ending(host: Host, seen: str | None, reason: str) -> ConnectionFailed:
    """Why a connection has ended.

    :param seen: what its socket has shown, if anything
    :param reason: what the endpoint says of it, or ''
    """
    condition, _, description = reason.partition(": ")
    if is_silence(reason):
        return ConnectionFailed(
            f"the connection to the router at {host} was silent for longer than its"
            " idle timeout"
        )
    if condition == _FORCED:
        return _failure(host, CLOSED + _detail(description))
    if condition == _FRAMING and not any(words in reason for words in _CUT_OFF):
        return _failure(host, f"sent data that is not AMQP 1.0{_detail(description)}")
    if seen == UNVERIFIED:
        return ConnectionFailed(f"the router at {host} {seen}")
    if seen is not None:
        return _failure(host, seen)
    return _failure(host, CLOSED + _detail(reason))


def _detail(text: str) -> str:
    return f" ({quoted(text)})" if text else ""


def _failure(host: Host, what: str) -> ConnectionFailed:
    kind = AuthenticationFailed if security.is_distrust(what) else ConnectionFailed
    return kind(f"the router at {host} {what}")
