# SPDX-License-Identifier: Apache-2.0
"""CURVE keys, and how a deployment derives its own from what its processes share.

All processes of a deployment log in to Redis with the same password. Whoever knows
it can be a server, so it may as well decide who is one of us: a pair of keys that is
derived from it is the same in all of them, and nothing has to be distributed.

While the password is being replaced, processes with the former one and with the new one
have to talk to each other. Redis then has a word for each, that the key of the other is
to be trusted; only who knows the password of those whom it is for can have written it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Protocol

import zmq
from oslo_messaging.exceptions import ConfigurationError
from zmq.utils import z85

#: A key as ZeroMQ writes it: 32 bytes in Z85 (https://rfc.zeromq.org/spec/32/).
_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
#: What scrypt is to cost (https://www.rfc-editor.org/rfc/rfc7914): 32 MiB for about a
#: tenth of a second. Whoever records a handshake can try passwords at this price.
_N, _R, _P = 2**15, 8, 1
_MEMORY = 128 * _N * _R * 2  # OpenSSL wants a little more than it needs
_SALT = b"hybrid-messaging zmq:// CURVE key pair 1\0"
#: What a word of trust is about, so that it cannot be taken for anything else.
_TRUST = b"hybrid-messaging zmq:// trust 1\0"
#: What the name of a word of trust begins with in Redis; a public key follows.
TRUST = "hybrid-messaging:zmq:trust:"


@dataclass(frozen=True)
class Pair:
    """A public and a secret key, in Z85."""

    public: bytes
    secret: bytes = field(repr=False)


class Keys(Protocol):
    """What a process needs in order to use CURVE."""

    @property
    def own(self) -> Pair:
        """The keys of this process.

        :raises ConfigurationError: they cannot be had
        """

    def knows(self, public: bytes) -> bool:
        """Whether the owner of a public key may be talked to."""

    def objection(self, public: str) -> str:
        """Why the owner of a public key is not, and what to do about it."""

    def refused(self) -> str:
        """Why a server may have refused us, and what to do about it."""


class DerivedKeys:
    """The pair of keys that all processes of a deployment derive alike.

    It is derived when it is first needed, and once for all children of a process.

    :param password: what all of them know
    """

    def __init__(self, password: str) -> None:
        self._password = password
        #: it has been needed
        self.derived = False
        #: the key of those whose password is another one for the moment
        self._other: bytes | None = None

    @property
    def own(self) -> Pair:
        """See `Keys.own`."""
        pair = derive(self._password)
        self.derived = True
        return pair

    def knows(self, public: bytes) -> bool:
        """See `Keys.knows`."""
        return public in (self.own.public, self._other)

    def heed(self, word: str) -> None:
        """Trust whom Redis' word of trust names, and nobody whom it does not.

        :param word: as `trust` makes it; anybody may have written it
        """
        other = word.partition(" ")[0].encode()
        genuine = hmac.compare_digest(word.encode(), _word(self.own, other).encode())
        self._other = other if genuine else None

    def objection(self, public: str) -> str:
        """See `Keys.objection`."""
        return (
            f"its public key {public} is not the one that this process derives from"
            " the password of Redis: its transport URL has another password, or did"
            " when it started, or only one of the two has [oslo_messaging_zmq]"
            " zmq_key_directory set"
        )

    def refused(self) -> str:
        """See `Keys.refused`."""
        return "it refuses our key, although both keys are the same: see its log"


def trust(one: str, other: str) -> dict[str, str]:
    """The words with which processes with two passwords trust each other.

    :param one, other: passwords of Redis
    :returns: by their names in Redis
    """
    pairs = derive(one), derive(other)
    return {
        TRUST + own.public.decode(): _word(own, others.public)
        for own, others in (pairs, pairs[::-1])
    }


def _word(own: Pair, other: bytes) -> str:
    mark = hmac.digest(own.secret, _TRUST + other, "sha256").hex()
    return f"{other.decode()} {mark}"


@functools.lru_cache(maxsize=16)
def derive(password: str) -> Pair:
    """Derive the pair of keys that a password stands for; it takes a moment.

    :raises ConfigurationError: this system cannot
    """
    require_curve()
    try:
        found = hashlib.scrypt(
            password.encode(),
            salt=_SALT,
            n=_N,
            r=_R,
            p=_P,
            maxmem=_MEMORY,
            dklen=32,
        )
    except (AttributeError, ValueError) as error:
        # some systems allow only what an authority has approved
        raise ConfigurationError(
            "zmq:// cannot derive its keys, because the OpenSSL of this Python has no"
            f" scrypt: {error}; set [oslo_messaging_zmq] zmq_key_directory on all"
            " hosts"
        ) from error
    secret = z85.encode(found)
    return Pair(zmq.curve_public(secret), secret)


def require_curve() -> None:
    """See that ZeroMQ can encrypt.

    :raises ConfigurationError: it cannot
    """
    if not zmq.has("curve"):
        raise ConfigurationError(
            "zmq:// cannot encrypt, because this libzmq was built without CURVE:"
            " install pyzmq from a wheel of the package index, which includes it"
        )


def check(key: bytes) -> None:
    """See that something is a key.

    :raises ValueError: it is none
    """
    if not _KEY.fullmatch(key):
        raise ValueError("this is not a CURVE key")
