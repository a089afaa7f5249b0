# SPDX-License-Identifier: Apache-2.0
"""Which connections of a transport are encrypted, and with which keys.

All that leaves the host is encrypted. The loopback interface is for processes of this
host alone and carries plain text, which is faster, unless a key directory is configured
or Redis is spoken to with TLS.
"""

from __future__ import annotations

from collections.abc import Callable

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers.zmq import names
from hybrid_messaging.drivers.zmq.keys import TRUST, DerivedKeys, Keys, Pair

_GIVE_KEYS = (
    "give Redis a password and put it into transport_url, so that all processes derive"
    " their keys from it; or make keys with `hybrid-messaging zmq-keys DIRECTORY` and"
    " set [oslo_messaging_zmq] zmq_key_directory"
)


class Encryption:
    """What both ends of a connection decide by.

    :param keys: None: there are none
    :param everywhere: encrypt on the loopback interface, too
    :param plaintext: encrypt nothing, unless `everywhere`
    """

    def __init__(
        self, keys: Keys | None, everywhere: bool = False, plaintext: bool = False
    ) -> None:
        self.keys = keys
        self._everywhere = everywhere
        self._plaintext = plaintext

    def wanted(self, address: str) -> bool:
        """Whether what is sent to an address is to be encrypted.

        :param address: of the network, or the name of a host
        """
        return self._everywhere or not (self._plaintext or names.is_loopback(address))

    def prepare(self, address: str) -> None:
        """Have the keys at hand, if a server on an address would need them.

        This may take a moment, so that nobody should wait for it later; and children of
        the process inherit them.

        :raises ConfigurationError: they cannot be had
        """
        if self.keys is not None and self.wanted(address):
            _ = self.keys.own

    def heed(self, read: Callable[[str], str]) -> None:
        """Learn whose keys are to be trusted besides our own, if we use derived ones.

        :param read: returns what the matchmaker has under a name
        """
        keys = self.keys
        if isinstance(keys, DerivedKeys) and keys.derived:
            keys.heed(read(TRUST + keys.own.public.decode()))

    def listening(self, address: str) -> Keys | None:
        """With which keys a server listens on an address; None: in plain text.

        :raises ConfigurationError: it must not listen there
        """
        if not self.wanted(address):
            return None
        if self.keys is None:
            raise ConfigurationError(
                f"zmq:// refuses to listen on {address} without encryption, because"
                f" anyone who reaches the port could call this service: {_GIVE_KEYS};"
                " or, if all services run on this host, set rpc_zmq_bind_address ="
                " 127.0.0.1; or, in a network that no one else can reach, set"
                " plaintext_beyond_loopback = true"
            )
        return self.keys

    def agree(self, public: str) -> None:
        """See whether a server may be connected to.

        It may take a moment: keys are derived or read.

        :param public: its public key, as the matchmaker has it, '' for none
        :raises ValueError: it may not; the text says what to do
        """
        if not public:
            return  # it depends on the address
        if self.keys is None:
            raise ValueError(
                "it accepts only processes that have its keys, and this process has"
                f" none: here, {_GIVE_KEYS}"
            )
        if not self.keys.knows(public.encode()):
            raise ValueError(self.keys.objection(public))

    def pair(self, public: str) -> Pair | None:
        """Our keys for a server that may be connected to; None if it has none."""
        return self.keys.own if public and self.keys is not None else None

    def without_key(self, address: str) -> str:
        """Why a server without a key cannot be connected to; '' if it can."""
        if not self.wanted(address):
            return ""
        return (
            f"it has no key, and this process sends nothing to {address} in plain"
            f" text: on that host, {_GIVE_KEYS}"
        )
