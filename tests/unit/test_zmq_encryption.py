# SPDX-License-Identifier: Apache-2.0
"""Which connections of `zmq` are encrypted."""

from __future__ import annotations

import pytest
import zmq
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers.zmq.encryption import Encryption
from hybrid_messaging.drivers.zmq.keys import DerivedKeys

KEYS = DerivedKeys("secret")
OWN = KEYS.own.public.decode()
OTHER = zmq.curve_keypair()[0].decode()
#: where others may listen in
BEYOND = ("192.0.2.1", "::", "2001:db8::1", "host.example", "0.0.0.0")
LOOPBACK = ("127.0.0.1", "127.1.2.3", "::1", "localhost")


@pytest.mark.parametrize("address", BEYOND)
def test_what_leaves_the_host_is_encrypted(address: str) -> None:
    encryption = Encryption(KEYS)
    assert encryption.listening(address) is KEYS
    assert "plain text" in encryption.without_key(address)


@pytest.mark.parametrize("address", LOOPBACK)
def test_the_loopback_interface_is_left_alone(address: str) -> None:
    for encryption in (Encryption(KEYS), Encryption(None)):
        assert encryption.listening(address) is None
        assert encryption.without_key(address) == ""


@pytest.mark.parametrize("address", BEYOND + LOOPBACK)
def test_keys_may_count_everywhere(address: str) -> None:
    encryption = Encryption(KEYS, everywhere=True)
    assert encryption.listening(address) is KEYS
    assert encryption.without_key(address)


@pytest.mark.parametrize("address", BEYOND)
def test_without_keys_nobody_listens_for_others(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Encryption(None).listening(address)
    for cure in (
        "password",
        "hybrid-messaging zmq-keys",
        "zmq_key_directory",
        "rpc_zmq_bind_address = 127.0.0.1",
        "plaintext_beyond_loopback = true",
    ):
        assert cure in str(caught.value)
    assert Encryption(None).without_key(address)


@pytest.mark.parametrize("address", BEYOND)
@pytest.mark.parametrize("keys", [KEYS, None])
def test_plain_text_has_to_be_asked_for(keys: DerivedKeys | None, address: str) -> None:
    encryption = Encryption(keys, plaintext=True)
    assert encryption.listening(address) is None
    assert encryption.without_key(address) == ""


def test_servers_with_our_key_are_talked_to_whatever_we_allow() -> None:
    for encryption in (Encryption(KEYS), Encryption(KEYS, plaintext=True)):
        encryption.agree(OWN)
        assert encryption.pair(OWN) == KEYS.own
        assert encryption.pair("") is None
        with pytest.raises(ValueError, match="derives from the password"):
            encryption.agree(OTHER)
    with pytest.raises(ValueError, match="this process has none"):
        Encryption(None, plaintext=True).agree(OTHER)
