# SPDX-License-Identifier: Apache-2.0
"""The keys that a deployment derives from the password of its Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from oslo_messaging.exceptions import ConfigurationError
from zmq.utils import z85

from hybrid_messaging.drivers.zmq import keys
from hybrid_messaging.drivers.zmq.keys import DerivedKeys


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """How often keys are derived, and with which parameters."""
    calls = []
    scrypt = hashlib.scrypt

    def count(password: bytes, **how: Any) -> bytes:
        calls.append(how)
        return scrypt(password, **how)

    monkeypatch.setattr(hashlib, "scrypt", count)
    keys.derive.cache_clear()
    yield calls
    keys.derive.cache_clear()


@pytest.mark.parametrize(
    ("password", "public"),
    [
        # computed with scrypt and X25519 of the package cryptography
        ("secret", b"5B-P8g+&{0p(m4!3NTz5NXk7)5jH0k]9V4r+7RiX"),
        ("pässword", b"-L[zqQv5uUkYy7[9DDNJ+$zuj*:uuR3[!RyzmqDA"),
    ],
)
def test_keys_are_those_of_all_processes(password: str, public: bytes) -> None:
    """Another release, too, has to derive them, as long as it shares a bus with us."""
    own = DerivedKeys(password).own
    assert own.public == public
    assert zmq.curve_public(own.secret) == public


def test_other_passwords_have_other_keys() -> None:
    assert DerivedKeys("one").own.secret != DerivedKeys("two").own.secret


def test_keys_are_derived_once_when_they_are_needed(
    derived: list[dict[str, Any]],
) -> None:
    """Trying a password costs time, so that a process must not spend it often."""
    made = [DerivedKeys("secret") for _ in range(10)]
    assert not derived
    assert len({each.own for each in made * 10}) == 1
    (how,) = derived
    assert 128 * how["n"] * how["r"] == 32 * 2**20


def test_only_our_own_key_is_known() -> None:
    made = DerivedKeys("secret")
    other, _ = zmq.curve_keypair()
    assert made.knows(made.own.public)
    assert not made.knows(other)
    assert "password of Redis" in made.objection(other.decode())


def test_two_passwords_trust_each_other_for_as_long_as_redis_says_so() -> None:
    one, two, three = map(DerivedKeys, ("one", "two", "three"))
    words = keys.trust("one", "two")
    assert len(words) == 2
    for own, other in ((one, two), (two, one)):
        word = words[keys.TRUST + own.own.public.decode()]
        own.heed(word)
        assert own.knows(other.own.public)
        assert own.knows(own.own.public)
        assert not own.knows(three.own.public)
        for secret in ("one", "two", own.own.secret.decode()):
            assert secret not in word
        own.heed("")
        assert not own.knows(other.own.public)


def test_who_does_not_know_the_password_has_nobody_trusted() -> None:
    """Those who can write to Redis, and nothing else."""
    one, two = DerivedKeys("one"), DerivedKeys("two")
    word, backwards = keys.trust("one", "two").values()
    own, _, mark = word.partition(" ")
    stranger = zmq.curve_keypair()[0].decode()
    for forged in (
        backwards,
        f"{stranger} {mark}",
        f"{own} {mark[:-1]}",
        f"{own} {'0' * 64}",
        own,
        " ",
        "é ü",
        "\N{REPLACEMENT CHARACTER}" * 100,
    ):
        one.heed(word)
        one.heed(forged)
        assert not one.knows(two.own.public), forged
        assert not one.knows(stranger.encode())
        assert one.knows(one.own.public)


def test_nothing_shows_secrets() -> None:
    made = DerivedKeys("s3cr3t")
    for secret in ("s3cr3t", made.own.secret.decode()):
        assert secret not in f"{made!r} {made.own!r} {made.own}"
        assert secret not in made.objection(made.own.public.decode()) + made.refused()


@pytest.mark.parametrize("error", [ValueError("unsupported"), AttributeError("none")])
def test_systems_without_scrypt_are_told_what_to_do(
    derived: list[Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(password: bytes, **how: Any) -> bytes:
        raise error

    monkeypatch.setattr(hashlib, "scrypt", fail)
    with pytest.raises(ConfigurationError, match="zmq_key_directory"):
        _ = DerivedKeys("secret").own


def test_libzmq_without_curve_is_told(
    derived: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq, "has", lambda capability: False)
    with pytest.raises(ConfigurationError, match="without CURVE"):
        _ = DerivedKeys("secret").own


@pytest.mark.parametrize("key", [b"", b"x" * 39, b"x" * 41, b'"' * 40])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="not a CURVE key"):
        keys.check(key)
    keys.check(z85.encode(bytes(32)))
