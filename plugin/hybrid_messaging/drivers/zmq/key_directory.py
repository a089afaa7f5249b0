# SPDX-License-Identifier: Apache-2.0
"""CURVE keys in a directory: our own pair, and the public keys of all whom we trust.

The files are those of czmq and pyzmq (`zmq.auth`): NAME.key has a public key, and
NAME.key_secret, which only its owner may read, a secret one as well. A process has
the only *.key_secret of its directory as its own, and takes part in a conversation
with all who have the secret of one of the *.key files there.
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging import whole_file
from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.zmq.keys import Pair, check, require_curve

LOG = logs.get(__name__)

PUBLIC, SECRET = ".key", ".key_secret"
#: Seconds after which the directory is looked at again, if it has to be.
FRESH = 1.0
#: What a file may be called, so that no name leads out of the directory.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_FILE = """\
#   ZeroMQ CURVE {kind} certificate of {name}
#   {advice}
curve
    public-key = "{public}"
"""


class KeyDirectory:
    """The keys in a directory, as `hybrid_messaging.drivers.zmq.keys.Keys`.

    :param directory: see above
    :raises ConfigurationError: it has no key pair that could be used
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own, self._own_path = _own(directory)
        self._seen: object = None
        self._known: dict[bytes, str] = {}
        #: why the directory could not be read the last time
        self._failure = ""
        #: monotonic time until which it counts as unchanged
        self._fresh_until = 0.0
        self._look()

    @property
    def own(self) -> Pair:
        """The pair of this process."""
        return self._own

    def knows(self, public: bytes) -> bool:
        """Whether a public key is in the directory, now or less than FRESH ago."""
        if time.monotonic() >= self._fresh_until:
            self._look()
        return public in self._known

    def objection(self, public: str) -> str:
        """Why the owner of a public key is not known, and what to do about it."""
        return (
            f"its public key {public} is not in {self._directory}: if the key is one"
            f" of yours, copy the file {PUBLIC} of its host there"
        )

    def refused(self) -> str:
        """Why a server may have refused us, and what to do about it."""
        public = self._own_path.with_suffix(PUBLIC)
        return f"it does not know our key: copy {public} to its key directory"

    def _look(self) -> None:
        # first: others who come meanwhile need not look, too
        self._fresh_until = time.monotonic() + FRESH
        try:
            found = sorted(_look(self._directory))
            if found != self._seen:
                self._known = _read(self._directory, [name for name, *_ in found])
                self._seen = found
            self._failure = ""
        except OSError as error:
            if str(error) != self._failure:
                LOG.warning("%s; using the keys that were read before", error)
            self._failure = str(error)


def _look(directory: Path) -> list[tuple[str, int, int]]:
    """What shows whether public keys have come, gone or changed."""
    with os.scandir(directory) as entries:
        return [
            (entry.name, entry.stat().st_mtime_ns, entry.stat().st_size)
            for entry in entries
            if entry.name.endswith(PUBLIC)
        ]


def _read(directory: Path, names: list[str]) -> dict[bytes, str]:
    known = {}
    for name in names:
        try:
            public, _ = zmq.auth.load_certificate(directory / name)
            check(public)
        except (OSError, ValueError) as error:
            LOG.warning("Ignoring %s/%s: %s", directory, name, error)
        else:
            known[public] = name.removesuffix(PUBLIC)
    return known


def _cure(directory: Path) -> str:
    return f"make one with `hybrid-messaging zmq-keys {directory}`"


def _own(directory: Path) -> tuple[Pair, Path]:
    """Our own keys, and the file that they are from.

    :raises ConfigurationError: there is not exactly one that can be used
    """
    require_curve()
    try:
        found = sorted(path for path in directory.iterdir() if path.suffix == SECRET)
    except OSError as error:
        raise ConfigurationError(
            f"zmq_key_directory: {error}; {_cure(directory)}"
        ) from error
    if not found:
        raise ConfigurationError(
            f"zmq_key_directory: {directory} has no secret key (*{SECRET});"
            f" {_cure(directory)}"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigurationError(
            f"zmq_key_directory: {directory} has several secret keys: {names}; leave"
            " only the one of this host"
        )
    (path,) = found
    try:
        if path.stat().st_mode & stat.S_IRWXO:
            raise ConfigurationError(
                f"zmq_key_directory: every user of this host can access {path}: chmod"
                f" 600 {path}"
            )
        public, secret = zmq.auth.load_certificate(path)
        if secret is None:
            raise ValueError("it has no secret key")
        for key in (public, secret):
            check(key)
        if zmq.curve_public(secret) != public:
            raise ValueError("its public and its secret key do not belong together")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"zmq_key_directory: {path} cannot be used: {error}; the user of this"
            " process must be able to read it"
        ) from error
    return Pair(public, secret), path


# -- making them ----------------------------------------------------------------


class Made(NamedTuple):
    """A key pair in a directory."""

    public: bytes
    secret_path: Path
    public_path: Path
    #: it was not there before
    new: bool
    #: names of all whose public keys are there
    known: list[str]


def make(directory: Path, name: str) -> Made:
    """Have a directory hold a key pair; one that is there stays what it is.

    :param directory: made if it is not there
    :param name: of the files, if they have to be made
    :raises ConfigurationError: what is there is something else; nothing is changed
    :raises OSError: it cannot be written
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not a valid name for a key: use letters, digits and . _ @ -"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = not _has_secret(directory)
    if new:
        public_path = directory / f"{name}{PUBLIC}"
        # somebody who makes both at the same time writes the secret one first
        if public_path.exists() and not _has_secret(directory):
            raise ConfigurationError(
                f"{public_path} exists without its secret key: it belongs to another"
                " host, or the secret key is lost. Choose another --name, or remove"
                " the file"
            )
        public, secret = (key.decode() for key in zmq.curve_keypair())
        text = _FILE.format(
            kind="secret", name=name, advice="Show it to nobody.", public=public
        )
        # somebody else who was faster has made the one that stays
        whole_file.write(
            directory / f"{name}{SECRET}",
            f'{text}    secret-key = "{secret}"\n',
            over=False,
        )
    own, secret_path = _own(directory)
    public_path = secret_path.with_suffix(PUBLIC)
    if not public_path.exists():
        text = _FILE.format(
            kind="public",
            name=secret_path.stem,
            advice="Copy it to the key directory of every host that talks to this one.",
            public=own.public.decode(),
        )
        whole_file.write(public_path, text, 0o644, over=False)
    known = _read(directory, [name for name, *_ in _look(directory)])
    if own.public not in known:
        raise ConfigurationError(
            f"{public_path} does not belong to {secret_path}: remove the wrong one"
        )
    return Made(own.public, secret_path, public_path, new, sorted(known.values()))


def _has_secret(directory: Path) -> bool:
    return any(path.suffix == SECRET for path in directory.iterdir())
