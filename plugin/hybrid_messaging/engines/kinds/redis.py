# SPDX-License-Identifier: Apache-2.0
"""A private Redis: where the servers of `zmq` tell that they are there.

It holds what servers renew every few seconds, and nothing else: no message goes
through it, so that it stores nothing on disk and counts none.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hybrid_messaging import state, tls, urls, whole_file
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Launch,
    Missing,
    Options,
    Traffic,
    templates,
)
from hybrid_messaging.engines.kinds import (
    Preparation,
    RotatingKind,
    logins,
    new_password,
)

TITLE = "Redis"

#: Redis, and what some distributions have in its place.
PROGRAM, FORK = "redis-server", "valkey-server"
#: The first that knows users and their rights.
OLDEST = (6, 0)
#: What a service does there, and what `traffic` asks.
RIGHTS = "+@sortedset +@string +@keyspace +@connection +time -@dangerous +info"
#: What is done with users; nothing else.
ADMIN, ADMIN_RIGHTS = "hybrid-admin", "-@all +acl +client +set +del +ping"
#: Some hundred thousand records.
MEMORY_LIMIT = "64mb"

#: The keys that services may use.
_KEYS = "hybrid-messaging:*"
#: What the keys of topics begin with (`hybrid_messaging.drivers.zmq.matchmaker`).
SERVERS = "hybrid-messaging:zmq:servers:"

_CONFIG = "redis.conf"
_VERSION = re.compile(r"v=((\d+)\.(\d+)\S*)")
#: The first that can leave its title, and thereby its environment, as it is.
_KEEPS_TITLE = (6, 2)
_VERSION_TIMEOUT = 30.0
_TIMEOUT = 2.0


class Redis(RotatingKind):
    """A Redis that is a matchmaker."""

    title = TITLE
    start_timeout = 30.0
    stop_timeout = 10.0

    def missing(self, options: Options) -> list[Missing]:
        if _program():
            return []
        if shutil.which("apt-get"):
            return [Missing(PROGRAM, f"sudo apt-get install {PROGRAM}")]
        return [Missing(PROGRAM, "sudo dnf install redis, or valkey")]

    def describe(self, options: Options) -> str:
        return _program() or PROGRAM

    def configure(self, engine: Preparation) -> Launch:
        directory, options = engine.directory, engine.options
        program = _program()
        if program is None:
            (lacking,) = self.missing(options)
            raise EngineError(f"{TITLE} is not installed here: {lacking.install}")
        port = engine.take_main_port()
        before = engine.before(state.RedisDetails)
        details = state.RedisDetails(
            admin_password=before.admin_password if before else new_password(),
            **logins(options, before),
        )
        config = directory / _CONFIG
        certificates = options.certificates
        whole_file.write(
            config,
            templates.render(
                _CONFIG,
                host=options.host,
                port=port,
                certificates=certificates and certificates.seen_from(directory),
                keeps_title=_version(program) >= _KEEPS_TITLE,
                users=[
                    (each.username, _hash(each.password), RIGHTS)
                    for each in details.all
                ],
                admin=ADMIN,
                # an engine of another supervisor has the user that it was given
                admin_hash=None if options.username else _hash(details.admin_password),
                admin_rights=ADMIN_RIGHTS,
                memory_limit=MEMORY_LIMIT,
            ),
        )
        # whoever reaches this Redis is on this machine, and so are all servers
        query = {"rpc_zmq_bind_address": HOST} if options.host == HOST else {}
        query |= urls.tls("zmq", options.ca_file)
        return Launch(
            command=(program, str(config)),
            port=port,
            url=urls.build(
                "zmq",
                [(options.host, port)],
                details.username,
                details.password,
                query=query,
            ),
            details=details,
        )

    def is_ready(self, engine: state.Engine) -> bool:
        try:
            # nobody else knows our password: whoever takes it is our server
            with _connected(engine) as client:
                return bool(client.ping())
        except EngineError:
            return False

    def admit(self, engine: state.Engine, login: state.Login) -> None:
        with _administered(engine) as client:
            client.acl_setuser(
                login.username,
                enabled=True,
                reset=True,
                hashed_passwords=[f"+{_hash(login.password)}"],
                keys=[_KEYS],
                commands=RIGHTS.split(),
            )
            # services with different passwords are to talk to each other
            for name, word in _trust(engine, login).items():
                client.set(name, word)

    def dismiss(self, engine: state.Engine, login: state.Login) -> None:
        with _administered(engine) as client:
            for name in _trust(engine, login):
                client.delete(name)
            # ends its connections, too
            client.acl_deluser(login.username)

    def users(self, engine: state.Engine) -> list[str]:
        with _administered(engine) as client:
            found = [str(each["user"]) for each in client.client_list()]
        return [user for user in found if user != ADMIN]

    def traffic(self, engine: state.Engine) -> Traffic:
        """Ask it for its counters; destinations are topics served."""
        with _connected(engine) as client:
            info = client.info()
        return Traffic(
            version=info["redis_version"],
            # the one that asks is no client
            connections=info["connected_clients"] - 1,
            destinations=len(topics(engine)),
            received=None,
            delivered=None,
        )


def topics(engine: state.Engine) -> list[str]:
    """List the topics that are served, as `vhost/exchange/topic`, percent-encoded.

    :raises EngineError: if it does not answer
    """
    with _connected(engine) as client:
        keys = list(client.scan_iter(match=f"{SERVERS}*", count=1000))
    return sorted(key.removeprefix(SERVERS) for key in keys)


def _hash(password: str) -> str:
    """How the configuration has a password."""
    return hashlib.sha256(password.encode()).hexdigest()


def _trust(engine: state.Engine, other: state.Login) -> Mapping[str, str]:
    """The words with which services trust the keys of another password."""
    from oslo_messaging.exceptions import ConfigurationError

    from hybrid_messaging.drivers.zmq import keys

    try:
        return keys.trust(engine.details.password or "", other.password)
    except ConfigurationError:
        return {}  # no service can derive keys on this system


def _administered(engine: state.Engine) -> AbstractContextManager[redis.Redis]:
    details = engine.details_as(state.RedisDetails)
    return _connected(
        engine, state.Login(username=ADMIN, password=details.admin_password)
    )


def _program() -> str | None:
    return shutil.which(PROGRAM) or shutil.which(FORK)


def _version(program: str) -> tuple[int, int]:
    """The version of a program.

    :raises EngineError: it is too old, or does not tell
    """
    try:
        told = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_VERSION_TIMEOUT,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"cannot run {program}: {error}") from error
    found = _VERSION.search(told)
    if found is None:
        raise EngineError(f"{program} is not {TITLE}: {told.strip()!r}")
    version = (int(found[2]), int(found[3]))
    if version < OLDEST:
        raise EngineError(
            f"{program} is {TITLE} {found[1]}, which has no access control lists: use"
            f" {'.'.join(map(str, OLDEST))} or later"
        )
    return version


@contextmanager
def _connected(
    engine: state.Engine, login: state.Login | None = None
) -> Iterator[redis.Redis]:
    """A client, whose exceptions are turned into ours.

    :param login: None: that of services
    """
    client = redis.Redis(
        host=engine.host,
        port=engine.port,
        username=login.username if login else engine.details.username,
        password=login.password if login else engine.details.password,
        ssl=engine.ca_file is not None,
        ssl_ca_certs=engine.ca_file,
        ssl_check_hostname=True,
        ssl_min_version=tls.OLDEST,
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
        # whoever asks will ask again
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        with client:
            yield client
    except redis.RedisError as error:
        raise EngineError(
            f"{TITLE} at {engine.host}:{engine.port} reports an error: {error}"
        ) from error
