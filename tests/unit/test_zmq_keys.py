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
    keys._derive.cache_clear()
    yield calls
    keys._derive.cache_clear()


@pytest.mark.parametrize(
    ("password", "vhost", "public"),
    [
        # computed with scrypt and X25519 of the package cryptography
        ("secret", "", b"5B-P8g+&{0p(m4!3NTz5NXk7)5jH0k]9V4r+7RiX"),
        ("pässword", "vhost", b"[)X9WCtO{n4vtM-yQlgWR$1P[HVk>JNRlD#G<R94"),
    ],
)
def test_keys_are_those_of_all_processes(
    password: str, vhost: str, public: bytes
) -> None:
    """Another release, too, has to derive them, as long as it shares a bus with us."""
    own = DerivedKeys(password, vhost).own
    assert own.public == public
    assert zmq.curve_public(own.secret) == public


def test_other_passwords_and_virtual_hosts_have_other_keys() -> None:
    pairs = [("one", ""), ("two", ""), ("one", "v"), ("onev", ""), ("one", "/")]
    found = {DerivedKeys(*pair).own.secret for pair in pairs}
    assert len(found) == len(pairs)
    assert DerivedKeys("one", None).own == DerivedKeys("one", "").own


def test_keys_are_derived_once_when_they_are_needed(
    derived: list[dict[str, Any]],
) -> None:
    """Trying a password costs time, so that a process must not spend it often."""
    made = [DerivedKeys("secret", "") for _ in range(10)]
    assert not derived
    assert len({each.own for each in made * 10}) == 1
    (how,) = derived
    assert 128 * how["n"] * how["r"] == 32 * 2**20


def test_only_our_own_key_is_known() -> None:
    made = DerivedKeys("secret", "")
    other, _ = zmq.curve_keypair()
    assert made.knows(made.own.public)
    assert not made.knows(other)
    assert "password of Redis" in made.objection(other.decode())


def test_nothing_shows_secrets() -> None:
    made = DerivedKeys("s3cr3t", "")
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
        _ = DerivedKeys("secret", "").own


def test_libzmq_without_curve_is_told(
    derived: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq, "has", lambda capability: False)
    with pytest.raises(ConfigurationError, match="without CURVE"):
        _ = DerivedKeys("secret", "").own


@pytest.mark.parametrize("key", [b"", b"x" * 39, b"x" * 41, b'"' * 40])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="not a CURVE key"):
        keys.check(key)
    keys.check(z85.encode(bytes(32)))
