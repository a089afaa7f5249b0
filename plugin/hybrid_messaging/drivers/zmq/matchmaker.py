# SPDX-License-Identifier: Apache-2.0
"""Where servers register for their topics, and clients find them: Redis, or a file.

In Redis, the servers of a topic are a sorted set, in which each has as its score
the time, by Redis' clock, until which it is to be kept. Servers renew that, remove
those that have not, and have Redis forget the set when nobody renews anything in it
any more. A word per topic, another one whenever servers have come or gone, spares
clients from reading the set to find out; one for all of Redis tells whether it still
is the one that it was. Clients write nothing.

What Redis holds may be damaged: every record is checked before it is used, and a key
that holds something else harms its own topic only.

Redis forgets by its own clock. If somebody sets that, nothing there can be relied on
until the servers have written again, just as after a loss of everything.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import ssl
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote

import redis
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging import log_safety, tls
from hybrid_messaging.drivers import forks, logs, tls_files
from hybrid_messaging.drivers.zmq import names, redis_connections, wire
from hybrid_messaging.drivers.zmq import options as zmq_options

LOG = logs.get(__name__)
logs.adopt("redis")

DEFAULT_PORTS = {"redis": 6379, "sentinel": 26379}
_PREFIX = "hybrid-messaging:zmq:"
#: What the key of a topic's servers begins with; its name follows.
SERVERS = f"{_PREFIX}servers:"
_EPOCH = f"{_PREFIX}epoch"
#: Seconds after which the word of a topic that nobody serves is forgotten.
_FORGET = 24 * 3600
#: Servers of a topic that are used: those that are due first, as nobody renews junk.
MOST_SERVERS = 20_000
#: Members of a topic's set that are asked for at a time, and how many times in a row.
#: Where there are more, the next look begins where this one has ended.
PAGE, PAGES = 20_000, 5
#: Topics of which that is remembered.
_MOST_CROWDED = 10
#: What a record begins and ends with, for Redis to leave out most junk.
_SHAPE = r'\["*"]'
#: Seconds by which Redis' clock may differ from what was to be expected.
_STEP = 1.0
#: Characters of the longest host name, and of a public key.
_LONGEST_HOST, _KEY = 255, 40
#: Characters of the longest record: JSON takes up to twice as many as an address.
_LONGEST_RECORD = 2 * wire.LONGEST_ADDRESS + 1024
#: Characters of a word that is read; the rest is passed over.
_LONGEST_WORD = 255
#: A record as JSON: three or four strings. Anything else, however deep, is not parsed.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_RECORD = re.compile(rf"\[{_STRING}(?:, ?{_STRING}){{2,3}}\]", re.DOTALL)
#: What endpoints, processes and keys are made of: visible ASCII.
_PRINTABLE = re.compile(r"[!-~]+")
#: What Redis says of a key that holds something else.
_NO_SET = "WRONGTYPE"
#: What may be wrong with the key of a topic's servers.
_NO_SERVERS = (
    "has the wrong type, so no server is found there until Redis expires it; to repair"
    " it at once, remove it with DEL"
)
_JUNK = (
    "has at least %d members that are not servers; they are ignored; one of them: %s"
)
_CROWDED = "has more members than are read at once; remove those that are not servers"
_TOO_MANY = "has too many servers; those after the first %d to expire are ignored"
#: Topics of which it is remembered what was wrong with them.
_MOST_DAMAGED = 1000
#: How Sentinel begins to say that it could not replace a master.
_NO_QUORUM = "NOQUORUM"
#: What stands for bytes that are no UTF-8.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class MatchmakerAway(Exception):
    """The matchmaker cannot be asked, for the reason in the text."""


class MatchmakerRefuses(MatchmakerAway):
    """The matchmaker lets nobody write, for the reason in the text."""


class Record(NamedTuple):
    """One listener of a topic."""

    server: str
    #: tcp://host:port
    endpoint: str
    #: random; distinguishes processes that have had the same port
    process: str
    #: its public key; empty: it does without
    key: str = ""

    def address(self, topic: str) -> bytes:
        """How requests name this listener."""
        return f"{self.process}/{topic}/{quote(self.server, safe='')}".encode()


#: A record and its topic.
Entry = tuple[str, Record]


class Reading(NamedTuple):
    """The servers of a topic."""

    version: str
    records: tuple[Record, ...]
    #: as in News
    epoch: str


class News(NamedTuple):
    """What shows that something has changed."""

    #: changes if what was written before may be gone
    epoch: str
    #: change if servers have come or gone, by topic
    versions: Mapping[str, str]


class Sentinels(NamedTuple):
    """What a Sentinel reports."""

    #: host:port
    master: str
    #: Sentinels that watch over it
    number: int
    #: how many of them have to take it for lost
    quorum: int
    #: why they could not replace it now, or ''
    lacks: str


class Matchmaker(Protocol):
    """What directories ask of a matchmaker.

    Every method raises MatchmakerAway, those that write MatchmakerRefuses as well.
    Topics are names as `topic` makes them.
    """

    #: what all processes of a deployment show there; None: there is nothing
    password: str | None
    #: whether it is spoken to with TLS
    tls: bool

    def assigned(self, name: str, server: str) -> Record | None:
        """Return the record that is prescribed for a server, if one is."""

    def write(self, entries: Sequence[Entry], expire: int, new: bool) -> str:
        """Register servers, or renew that. Clients hear of those that are new.

        :param expire: seconds until they are forgotten
        :param new: clients are to hear of all of them
        :returns: the epoch, as in News, in which it was written
        """

    def remove(self, entries: Sequence[Entry]) -> None:
        """Unregister servers."""

    def read(self, topics: Sequence[str]) -> dict[str, Reading]:
        """Return the servers of some topics."""

    def news(self, topics: Sequence[str]) -> News:
        """Return what shows whether to read them again."""

    def word(self, name: str) -> str:
        """Return the beginning of what is written under a name, '' if nothing is."""

    def topics(self) -> list[str]:
        """Return every topic that has been served of late."""

    def forget(self, topics: Sequence[str]) -> None:
        """Remove all that is known of topics that nobody will serve again."""

    def close(self) -> None:
        """Let go of connections."""

    def after_fork(self) -> None:
        """In a child: leave the connections to the parent."""


@functools.lru_cache(maxsize=1024)
def topic(vhost: str | None, exchange: str, name: str) -> str:
    """The name of a topic among all virtual hosts and exchanges."""
    return "/".join(quote(part, safe="") for part in (vhost or "", exchange, name))


def make(url: Any, options: Any, redis_options: Any) -> Matchmaker:
    """Make the matchmaker of a transport URL; it connects when it is first asked.

    :param url: oslo_messaging.TransportURL
    :param options: the [oslo_messaging_zmq] group
    :param redis_options: the [matchmaker_redis] group
    :raises ConfigurationError: there is no such matchmaker, or it lacks something
    """
    kind = url.transport.partition("+")[2] or options.rpc_zmq_matchmaker
    if kind == "static":
        return StaticMatchmaker(options.zmq_static_file, url.virtual_host)
    if kind not in DEFAULT_PORTS:
        raise ConfigurationError(
            f"{url.transport} is not a matchmaker; choose zmq+redis, zmq+sentinel or"
            " zmq+static"
        )
    ca_file = options.zmq_redis_ca_file or redis_options.ssl_ca_file
    _check_files(options, redis_options)
    return RedisMatchmaker(url, kind == "sentinel", redis_options, ca_file)


def _check_files(options: Any, redis_options: Any) -> None:
    """:raises ConfigurationError: a file that an option for TLS names cannot be used"""
    group = zmq_options.REDIS_GROUP.name
    if options.zmq_redis_ca_file:
        option = f"[{zmq_options.GROUP.name}] zmq_redis_ca_file"
        tls_files.check_authorities(option, options.zmq_redis_ca_file)
    elif redis_options.ssl_ca_file:
        tls_files.check_authorities(f"[{group}] ssl_ca_file", redis_options.ssl_ca_file)
    if redis_options.ssl_cert_file:
        tls_files.check_pair(
            f"[{group}] ssl_cert_file",
            redis_options.ssl_cert_file,
            f"[{group}] ssl_key_file",
            redis_options.ssl_key_file,
        )
    elif redis_options.ssl_key_file:
        raise ConfigurationError(
            f"[{group}] ssl_key_file {redis_options.ssl_key_file}: there is no"
            " ssl_cert_file that it belongs to"
        )


class Clock:
    """Notices when the clock of Redis is set, by comparing it with our own."""

    def __init__(self) -> None:
        #: how far Redis' clock is ahead of ours: at least, and at most
        self._ahead: tuple[float, float] | None = None
        #: how many times it has been set
        self.steps = 0

    def see(self, shown: float, before: float, after: float) -> None:
        """Take note of what Redis' clock shows.

        :param shown: seconds since 1970
        :param before: monotonic time at which Redis was asked
        :param after: monotonic time at which it had answered
        """
        least, most = shown - after, shown - before
        if self._ahead is not None:
            former_least, former_most = self._ahead
            if least > former_most + _STEP or most < former_least - _STEP:
                self.steps += 1
        self._ahead = least, most


class _Asked(NamedTuple):
    """What Redis has answered."""

    #: seconds since 1970
    now: float
    #: which Redis keeps as long as its memory, and its replicas with it
    word: str
    #: how many times this process had connected to Redis by then
    connects: int
    #: of the topics, in their order
    versions: list[str]
    #: of the topics, in their order: a cursor, and members with their scores, or an
    #: exception for what cannot be read
    servers: list[Any]


class _Crowd(NamedTuple):
    """What is known of a topic that has too many members for one look."""

    #: where Redis is to go on; 0: at the beginning
    cursor: int = 0
    #: members that have been seen, and until when they are to be kept
    seen: Mapping[str, float] = MappingProxyType({})


class RedisMatchmaker:
    """Redis, or whichever Redis the Sentinels say is the master.

    :param url: oslo_messaging.TransportURL
    :param sentinel: its hosts are Sentinels
    :param options: the [matchmaker_redis] group
    :param ca_file: the CA certificates that count, '' for none
    """

    def __init__(self, url: Any, sentinel: bool, options: Any, ca_file: str) -> None:
        kind = "sentinel" if sentinel else "redis"
        self._hosts = [
            (host.hostname or "localhost", host.port or DEFAULT_PORTS[kind])
            for host in url.hosts
        ] or [("localhost", DEFAULT_PORTS[kind])]
        if not sentinel and len(self._hosts) > 1:
            raise ConfigurationError(
                "zmq:// takes a single Redis server; for several with failover, use"
                " Sentinels: zmq+sentinel://"
            )
        self._sentinel = sentinel
        self._group = options.sentinel_group_name
        timeout = options.socket_timeout / 1000
        self._common: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": redis_connections.ONCE_MORE,
            "decode_responses": True,
            "encoding_errors": "replace",
        }
        self.tls = wants_tls(options, ca_file)
        if self.tls:
            self._common["context"] = functools.partial(
                _client_context, ca_file, options.ssl_cert_file, options.ssl_key_file
            )
        account = url.hosts[0] if url.hosts else None
        self.password = (account and account.password) or None
        self._login = {
            "username": (account and account.username) or None,
            "password": self.password,
            "db": options.database,
        }
        self._sentinel_login = {
            "username": options.sentinel_username,
            "password": options.sentinel_password,
        }
        self._client: redis.Redis | None = None
        self._clock = Clock()
        #: topics whose servers have changed, of which clients have not been told yet
        self._untold: set[str] = set()
        #: the topics that held what is no server, a hash of all that they held, and
        #: the servers among it
        self._damaged: dict[str, tuple[int, tuple[Record, ...]]] = {}
        #: topics with too many members
        self._crowds: dict[str, _Crowd] = {}
        #: what was last said to be wrong with a topic
        self._mentioned: dict[str, str] = {}

    def __str__(self) -> str:
        kind = "Sentinel" if self._sentinel else "Redis"
        names = (f"[{name}]" if ":" in name else name for name, _ in self._hosts)
        ports = (port for _, port in self._hosts)
        return f"{kind} at " + ", ".join(map("{}:{}".format, names, ports))

    def _redis(self) -> redis.Redis:
        if self._client is None:
            self._client = (
                redis_connections.master(
                    self._group,
                    self._hosts,
                    self._common,
                    self._login,
                    self._sentinel_login,
                )
                if self._sentinel
                else redis_connections.server(
                    self._hosts[0], self._common | self._login
                )
            )
        return self._client

    def _pipe(self) -> Any:
        return self._redis().pipeline(transaction=False)

    def _try(self, pipe: Any) -> list[Any]:
        """What each command has come to; exceptions for those that were refused."""
        try:
            result: list[Any] = pipe.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as error:
            raise MatchmakerAway(self._says(error)) from error
        return result

    def _check(
        self, result: list[Any], refused: type[MatchmakerAway] = MatchmakerAway
    ) -> list[Any]:
        """See that no command was refused."""
        for each in result:
            if isinstance(each, Exception):
                if refused is MatchmakerRefuses:
                    self._seek_master()
                raise refused(self._says(each)) from each
        return result

    def _seek_master(self) -> None:
        """Leave a Redis that was the master, if Sentinels name another one."""
        pool = self._redis().connection_pool
        if isinstance(pool, redis_connections.SentinelPool):
            with contextlib.suppress(redis.RedisError, OSError):
                pool.get_master_address()

    def _says(self, error: Exception) -> str:
        """What has failed, for people; part of the text may be that of Redis."""
        return f"{self}: {log_safety.line(str(error))}"

    def _mention(self, name: str, damage: str, *arguments: object) -> None:
        """Say what is wrong with a topic, once as long as it is the same."""
        if self._mentioned.get(name) != damage:
            _remember(self._mentioned, name, damage)
            key = log_safety.quoted(_servers(name))
            LOG.warning(f"%s: %s {damage}", self, key, *arguments)

    def _ask(self, topics: Sequence[str], read: bool = False) -> _Asked:
        """Ask for all that shows changes.

        :param read: and for the servers
        """
        pipe = self._pipe()
        pipe.time()
        # the words first: what changes in between is seen as news later
        pipe.mget([_EPOCH, *map(_version, topics)])
        for name in topics if read else ():
            self._scan(pipe, name, self._crowds.get(name, _Crowd()).cursor)
        before = time.monotonic()
        first, second, *found = self._try(pipe)
        after = time.monotonic()
        connects = pipe.connection_pool.connects
        (seconds, microseconds), (word, *versions) = self._check([first, second])
        now = seconds + microseconds / 1e6
        self._clock.see(now, before, after)
        known = [each or "" for each in versions]
        return _Asked(now, word or "", connects, known, found)

    @staticmethod
    def _scan(pipe: Any, name: str, cursor: int) -> None:
        """Ask for some members of a topic's set; of others than the first for servers.

        In Redis' own order, which nobody can foresee: no member hides another one.
        """
        match = _SHAPE if cursor else None
        pipe.zscan(_servers(name), cursor, match=match, count=PAGE)

    def _epoch(self, word: str, connects: int) -> str:
        # another connection may lead to another Redis: a replica of the last one has
        # its word, and perhaps not all that was written there
        return f"{word}/{self._clock.steps}/{connects}"

    def assigned(self, name: str, server: str) -> Record | None:
        return None

    def write(self, entries: Sequence[Entry], expire: int, new: bool) -> str:
        asked = self._ask(())
        topics = list(dict.fromkeys(name for name, _ in entries))
        if new:
            self._untold.update(topics)
        word = uuid.uuid4().hex
        pipe = self._pipe()
        pipe.set(_EPOCH, word, nx=True)
        for name, record in entries:
            pipe.zadd(_servers(name), {json.dumps(record): asked.now + expire})
        begun, *added = self._try(pipe)
        # the keys of some topics may hold something else than servers
        passed_over = {
            name
            for (name, _), count in zip(entries, added, strict=True)
            if _is_no_set(count)
        }
        self._let_expire(passed_over, expire)
        self._untold.update(
            name for (name, _), count in zip(entries, added, strict=True) if count == 1
        )
        topics = [name for name in topics if name not in passed_over]
        written = [begun, *(each for each in added if not _is_no_set(each))]
        self._keep(topics, expire, written, asked.now)
        self._tell()
        return self._epoch(asked.word or (word if begun else ""), asked.connects)

    def _let_expire(self, topics: Collection[str], expire: int) -> None:
        """Have Redis forget what is no set; the topics' servers register after that."""
        if not topics:
            return
        pipe = self._pipe()
        for name in topics:
            pipe.ttl(_servers(name))
        left = self._check(self._try(pipe))
        pipe = self._pipe()
        for name, seconds in zip(topics, left, strict=True):
            self._mention(name, _NO_SERVERS)
            if seconds < 0:
                pipe.expire(_servers(name), expire)
        self._check(self._try(pipe), MatchmakerRefuses)

    def _keep(
        self, topics: list[str], expire: int, written: list[Any], now: float
    ) -> None:
        """Have Redis keep the topics' servers, and forget those that are overdue.

        A Redis that is full takes no renewals, so that all are overdue there; what
        it has it can keep.
        """
        full = any(isinstance(each, Exception) for each in written)
        pipe = self._pipe()
        for name in topics:
            pipe.expire(_servers(name), expire)
        for name in () if full else topics:
            pipe.zremrangebyscore(_servers(name), "-inf", now)
        kept = self._try(pipe)
        self._check([*written, *kept], MatchmakerRefuses)
        removed = kept[len(topics) :]
        self._untold.update(
            name for name, count in zip(topics, removed, strict=True) if count
        )

    def _tell(self) -> None:
        """Have clients hear of changes; if this fails, the next one does."""
        pipe = self._pipe()
        for name in self._untold:
            # and what it holds so far
            pipe.set(_version(name), uuid.uuid4().hex, ex=_FORGET)
        self._check(self._try(pipe), MatchmakerRefuses)
        self._untold.clear()

    def remove(self, entries: Sequence[Entry]) -> None:
        pipe = self._pipe()
        for name, record in entries:
            pipe.zrem(_servers(name), json.dumps(record))
            self._untold.add(name)
        removed = self._try(pipe)
        self._check([e for e in removed if not _is_no_set(e)], MatchmakerRefuses)
        self._tell()

    def read(self, topics: Sequence[str]) -> dict[str, Reading]:
        asked = self._ask(topics, read=True)
        epoch = self._epoch(asked.word, asked.connects)
        return {
            name: Reading(version, self._found(name, page, asked.now), epoch)
            for name, version, page in zip(
                topics, asked.versions, asked.servers, strict=True
            )
        }

    def _found(self, name: str, page: Any, now: float) -> tuple[Record, ...]:
        """The servers of a topic.

        :param page: the first members that Redis has told; also an exception
        :param now: by Redis' clock
        """
        if _is_no_set(page):
            self._mention(name, _NO_SERVERS)
            return ()
        crowd = self._crowds.pop(name, _Crowd())
        members: dict[str, float] = {}
        for left in reversed(range(PAGES)):
            self._check([page])
            cursor, some = page
            members.update(some)
            if not cursor or not left:
                break
            pipe = self._pipe()
            self._scan(pipe, name, cursor)
            (page,) = self._try(pipe)
        if cursor or crowd.cursor:
            kept = {text: due for text, due in crowd.seen.items() if due >= now}
            members = kept | members
            likely = (each for each in members.items() if each[0].startswith('["'))
            seen = dict(sorted(likely, key=_due)[:MOST_SERVERS])
            _remember(self._crowds, name, _Crowd(cursor, seen), _MOST_CROWDED)
        return self._records(name, members)

    def _records(self, name: str, members: Mapping[str, float]) -> tuple[Record, ...]:
        """The servers among members, which are to be kept until different times."""
        # junk that stays is looked at once
        mark, known = hash(frozenset(members)), self._damaged.get(name)
        if known is not None and known[0] == mark:
            return known[1]
        self._damaged.pop(name, None)
        records, damaged = [], []
        for text, due in sorted(members.items()):
            try:
                records.append((_record(name, text), due))
            except ValueError:
                damaged.append(text)
        used = records
        if len(records) > MOST_SERVERS:
            used = sorted(sorted(records, key=_due)[:MOST_SERVERS])
        servers = tuple(record for record, _ in used)
        if damaged:
            _remember(self._damaged, name, (mark, servers))
        if name in self._crowds:
            self._mention(name, _CROWDED)
        elif damaged:
            one = log_safety.quoted(damaged[0])
            self._mention(name, _JUNK, len(damaged), one)
        elif used is not records:
            self._mention(name, _TOO_MANY, MOST_SERVERS)
        else:
            self._mentioned.pop(name, None)
        return servers

    def news(self, topics: Sequence[str]) -> News:
        asked = self._ask(topics)
        versions = dict(zip(topics, asked.versions, strict=True))
        return News(self._epoch(asked.word, asked.connects), versions)

    def word(self, name: str) -> str:
        (word,) = self._try(self._pipe().getrange(name, 0, _LONGEST_WORD))
        return word if isinstance(word, str) else ""

    def info(self) -> Mapping[str, Any]:
        """What Redis reports about itself (https://redis.io/docs/latest/commands/info/).

        :raises MatchmakerAway: it does not, or not to this user
        """
        [told] = self._check(self._try(self._pipe().info()))
        return dict(told)

    def sentinels(self) -> list[Sentinels]:
        """What each Sentinel that answers reports of the others and of the master."""
        found = []
        manager = getattr(self._redis().connection_pool, "sentinel_manager", None)
        for client in manager.sentinels if manager else ():
            try:
                told = client.sentinel_master(self._group)
                try:
                    client.execute_command("SENTINEL CKQUORUM", self._group)
                    lacks = ""
                except redis.ResponseError as error:
                    lacks = log_safety.line(str(error))
                found.append(
                    Sentinels(
                        log_safety.line(f"{told['ip']}:{told['port']}"),
                        int(told["num-other-sentinels"]) + 1,
                        int(told["quorum"]),
                        lacks if lacks.startswith(_NO_QUORUM) else "",
                    )
                )
            except (redis.RedisError, OSError, KeyError, TypeError, ValueError):
                continue
        return found

    def topics(self) -> list[str]:
        try:
            keys = list(self._redis().scan_iter(match=_servers("*"), count=1000))
        except (redis.RedisError, OSError) as error:
            raise MatchmakerAway(self._says(error)) from error
        return sorted(key.removeprefix(SERVERS) for key in keys)

    def forget(self, topics: Sequence[str]) -> None:
        pipe = self._pipe()
        for name in topics:
            pipe.delete(_servers(name), _version(name))
        self._check(self._try(pipe), MatchmakerRefuses)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
            client.connection_pool.disconnect()

    def after_fork(self) -> None:
        forks.keep(self._client)  # somebody may have held a lock of its pool
        self._client = None


def _servers(name: str) -> str:
    return f"{SERVERS}{name}"


def _version(name: str) -> str:
    return f"{_PREFIX}version:{name}"


def _is_no_set(result: object) -> bool:
    """Whether Redis has refused a command as the key holds something else."""
    return isinstance(result, Exception) and str(result).startswith(_NO_SET)


def _due(member: tuple[Any, float]) -> float:
    """Until when a member is to be kept."""
    return member[1]


def _remember(
    memory: dict[str, Any], name: str, what: object, most: int = _MOST_DAMAGED
) -> None:
    """Remember something of a topic; of too many, the first is forgotten."""
    memory[name] = what
    if len(memory) > most:
        del memory[next(iter(memory))]


def _record(name: str, text: str) -> Record:
    """Read what a topic's set holds.

    :param name: of the topic
    :raises ValueError: it is no server
    """
    if (
        len(text) > _LONGEST_RECORD
        or _REPLACEMENT in text
        or not _RECORD.fullmatch(text)
    ):
        raise ValueError("not a record that a server writes")
    return _check(name, Record(*json.loads(text)))


def _check(name: str, record: Record) -> Record:
    """See that a server can be called and connected to.

    :param name: of its topic
    :raises ValueError: it cannot
    """
    host, port = names.parse(record.endpoint)
    if (
        names.endpoint(host, port) != record.endpoint.lower()
        or not _PRINTABLE.fullmatch(host)
        or len(host) > _LONGEST_HOST
    ):
        raise ValueError("its endpoint is not tcp://host:port")
    if record.key and not (
        len(record.key) == _KEY and _PRINTABLE.fullmatch(record.key)
    ):
        raise ValueError("its public key is not valid")
    if "/" in record.process or not _PRINTABLE.fullmatch(record.process):
        raise ValueError("the name of its process is not valid")
    # this also fails for what is no Unicode
    if len(record.address(name)) > wire.LONGEST_ADDRESS:
        raise ValueError("its name is too long")
    return record


def wants_tls(options: Any, ca_file: str) -> bool:
    """Whether Redis is spoken to with TLS.

    :param options: the [matchmaker_redis] group
    :param ca_file: the CA certificates that count, '' for none
    """
    return bool(options.ssl or ca_file or options.ssl_cert_file)


def _client_context(
    ca_file: str, certificate_file: str, key_file: str
) -> ssl.SSLContext:
    """What TLS with Redis is like; the files may have changed since the last time.

    :raises OSError: one of them cannot be used
    """
    context = tls.client(ca_file)
    if certificate_file:
        # without any password, OpenSSL would ask for one on the terminal
        context.load_cert_chain(certificate_file, key_file or certificate_file, "")
    return context


#: The epoch of what nobody but people writes.
_STATIC = "static"


class StaticMatchmaker:
    """A file in which people write which servers there are, and where.

    Every line has an exchange, a topic, a server and host:port, each as it would
    stand in a URL, and the public key if there is one; lines that start with # are
    comments. Servers listen where the file says, so a line is for one process.

    :param path: the file
    :param vhost: of the transport URL; the file is for one
    """

    password: str | None = None
    tls = False

    def __init__(self, path: str, vhost: str | None) -> None:
        if not path:
            raise ConfigurationError(
                "[oslo_messaging_zmq] zmq_static_file is not set, and zmq+static://"
                " needs it"
            )
        self._path = Path(path)
        self._vhost = vhost

    def __str__(self) -> str:
        return str(self._path)

    def _read(self) -> dict[str, list[Record]]:
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise MatchmakerAway(f"{self}: {error}") from error
        found: dict[str, list[Record]] = {}
        for number, line in enumerate(lines, start=1):
            columns = line.split()
            if not columns or columns[0].startswith("#"):
                continue
            if len(columns) not in (4, 5):
                raise MatchmakerAway(
                    f"{self}:{number}: expected exchange, topic, server, host:port"
                    " and, optionally, a public key"
                )
            exchange, name, server, address, *key = columns
            whole = topic(self._vhost, exchange, name)
            # nothing here distinguishes processes that have had the same port
            record = Record(server, f"tcp://{address}", _STATIC, *key)
            try:
                found.setdefault(whole, []).append(_check(whole, record))
            except ValueError as error:
                raise MatchmakerAway(f"{self}:{number}: {error}") from error
        return found

    def assigned(self, name: str, server: str) -> Record | None:
        for record in self._read().get(name, ()):
            if record.server == server:
                return record
        raise ConfigurationError(
            f"{self}: no line for the server {server} of"
            f" {' '.join(unquote(part) for part in name.split('/')[1:])}"
        )

    def write(self, entries: Sequence[Entry], expire: int, new: bool) -> str:
        return _STATIC

    def remove(self, entries: Sequence[Entry]) -> None:
        pass

    def read(self, topics: Sequence[str]) -> dict[str, Reading]:
        version, found = self._version(), self._read()
        return {
            name: Reading(version, tuple(found.get(name, ())), _STATIC)
            for name in topics
        }

    def news(self, topics: Sequence[str]) -> News:
        return News(_STATIC, dict.fromkeys(topics, self._version()))

    def _version(self) -> str:
        try:
            return str(self._path.stat().st_mtime_ns)
        except OSError as error:
            raise MatchmakerAway(f"{self}: {error}") from error

    def word(self, name: str) -> str:
        return ""

    def topics(self) -> list[str]:
        return sorted(self._read())

    def forget(self, topics: Sequence[str]) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass
