# SPDX-License-Identifier: Apache-2.0
"""zmq://: ZeroMQ, whose matchmaker in Redis is asked for the records of its servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from hybrid_messaging import log_safety, urls
from hybrid_messaging.drivers.zmq.names import is_loopback, parse
from hybrid_messaging.engines import HOST, EngineError
from hybrid_messaging.servers.census import Census, Listener
from hybrid_messaging.servers.insight import Insight, Look, ServerProblem
from hybrid_messaging.servers.transport import (
    CLIENT,
    RESTART_TIMEOUT,
    TIMEOUT,
    ConnectError,
    Inventory,
    Names,
    Transport,
    protocol_error,
    tls_failed,
    unreachable,
)

# the matchmaker brings oslo.messaging and the client of Redis along, which take
# longer than most commands
if TYPE_CHECKING:
    from hybrid_messaging.drivers.zmq.matchmaker import Matchmaker, Record, Sentinels

#: The scheme of URLs that name Sentinels, which know where Redis is.
SENTINEL = "zmq+sentinel"

_ENDPOINT = (
    "whether clients can reach the addresses of servers: rpc_zmq_host (or the host's"
    " name) must resolve, and rpc_zmq_min_port to rpc_zmq_max_port must be open"
)


#: Sentinels of which one may be lost.
_ENOUGH = 3


class Encryption(NamedTuple):
    """What the driver makes of its options (`ZmqDriver`).

    :param text: how messages are encrypted, for people
    :param refused: servers do not start, for want of keys
    :param waived: the option that does without counts
    """

    text: str
    refused: bool = False
    waived: bool = False


class Zmq(Transport):
    """ZeroMQ, as our driver uses it."""

    title = "ZeroMQ, matched by Redis"
    delivery = "direct"
    group = "oslo_messaging_zmq"
    besides = "matchmaker_redis"
    no_notifications = "ZeroMQ stores no notifications"
    has_vhosts = False
    package = "hybrid-messaging"
    tells_traffic = True
    look_at = {
        "servers": "[oslo_messaging_zmq] rpc_zmq_bind_address: an address of this host",
        "call": _ENDPOINT,
        "directed": _ENDPOINT,
        "cast": _ENDPOINT,
        "fanout": _ENDPOINT,
        "large": "[oslo_messaging_zmq] max_message_size",
        "nobody": "[oslo_messaging_zmq] restart_timeout",
        "killed": "idle_timeout, and firewalls that drop connections silently",
        "rpc-restart": "Redis' log, and whether its memory is full",
    }

    _without_tls = {
        "ssl": False,
        "ssl_ca_file": "",
        "ssl_cert_file": "",
        "zmq_redis_ca_file": "",
    }
    _ca_files = ("zmq_redis_ca_file", "ssl_ca_file")

    @property
    def port(self) -> int:
        """See `Transport`."""
        return 26379 if self.url.scheme == SENTINEL else 6379

    @property
    def defect(self) -> str:
        """See `Transport`."""
        if len(self.url.hosts) > 1 and self.url.scheme != SENTINEL:
            return (
                "the zmq driver takes a single Redis server; for several with"
                f" failover, use Sentinels: {SENTINEL}://"
            )
        return ""

    def trusting(
        self, ca_file: str | None, key_directory: str | None
    ) -> dict[str, str]:
        """See `Transport`."""
        keys = {"zmq_key_directory": key_directory} if key_directory else {}
        return {**super().trusting(ca_file, key_directory), **keys}

    def trial_query(self, role: str, configured: bool) -> Mapping[str, str]:
        """See `Transport`; all processes of a run are on this host."""
        if configured:
            return {}
        return {
            "restart_timeout": str(RESTART_TIMEOUT),
            "rpc_zmq_bind_address": HOST,
        }

    @property
    def encrypted(self) -> bool:
        """See `Transport`; it is about Redis."""
        from hybrid_messaging.drivers.zmq import matchmaker

        options = self.options
        return matchmaker.wants_tls(
            options, options.zmq_redis_ca_file or options.ssl_ca_file
        )

    @property
    def _is_static(self) -> bool:
        """Whether a file stands in for Redis."""
        kind = self.url.scheme.partition("+")[2]
        return (kind or self.options.rpc_zmq_matchmaker) == "static"

    @property
    def encryption(self) -> Encryption:
        """How messages are encrypted; it takes the options."""
        options = self.options
        if options.zmq_key_directory:
            return Encryption(f"CURVE, keys in {options.zmq_key_directory}")
        if options.plaintext_beyond_loopback:
            return Encryption("plain text", waived=True)
        if self._is_static:
            return Encryption("plain text, on the loopback interface only")
        password = bool(self.url.hosts and self.url.hosts[0].password)
        tls = self.encrypted
        if is_loopback(options.rpc_zmq_bind_address) and not (password and tls):
            return Encryption("plain text, on the loopback interface only")
        if not password:
            return Encryption("no keys", refused=True)
        if tls or all(is_loopback(host.host) for host in self.url.hosts):
            return Encryption("CURVE, keys from the password")
        return Encryption(
            "CURVE, keys from the password, which is sent to Redis without TLS"
        )

    @property
    def files(self) -> list[str]:
        """See `Transport`."""
        own = self.options.zmq_static_file if self._is_static else ""
        return [*super().files, *filter(None, [own])]

    def grace(self) -> float | None:
        """See `Transport`."""
        return float(self.options.restart_timeout)

    def engine_kind(self, said: str) -> str | None:
        """See `Transport`; a Sentinel is no Redis."""
        return None if self.url.scheme == SENTINEL else "redis"

    @contextlib.contextmanager
    def matchmaker(
        self, hosts: Iterable[urls.Host], timeout: float
    ) -> Iterator[Matchmaker]:
        """The matchmaker, as the driver makes it.

        :param hosts: those of the servers to ask
        :param timeout: seconds that Redis may take to answer
        :raises ConnectError: it cannot be asked
        """
        import oslo_messaging
        from oslo_config import cfg
        from oslo_messaging.exceptions import ConfigurationError

        from hybrid_messaging.drivers.zmq import matchmaker

        names = [
            oslo_messaging.TransportHost(
                *self.address(host), username=host.username, password=host.password
            )
            for host in hosts
        ]
        target = oslo_messaging.TransportURL(
            cfg.ConfigOpts(), self.url.scheme, self.url.vhost, names
        )
        options = SimpleNamespace(
            **{**vars(self.options), "socket_timeout": int(timeout * 1000)}
        )
        try:
            found = matchmaker.make(target, options, options)
            with contextlib.closing(found):
                yield found
        except (ConfigurationError, matchmaker.MatchmakerAway) as error:
            encrypted = bool(
                options.ssl or options.ssl_ca_file or options.ssl_cert_file
            )
            raise _explained(names, error, encrypted) from error

    def _connect(self, host: urls.Host, timeout: float) -> str:
        """Ask the matchmaker what the driver asks, and write its one lasting word."""
        if self.url.hosts:
            super()._connect(host, timeout)
        with self.matchmaker([host], timeout) as found:
            found.write([], 1, new=False)
            found.read([CLIENT])
        return ""

    def _inspect(
        self, hosts: Sequence[urls.Host], look: Look, insight: Insight
    ) -> None:
        from hybrid_messaging.drivers.zmq import matchmaker

        try:
            with self.matchmaker(hosts, look.timeout) as found:
                if isinstance(found, matchmaker.RedisMatchmaker):
                    info = found.info()
                    insight.problems += self._judged(info)
                    insight.problems += _agreed(found.sentinels())
                    if "run_id" in info:
                        insight.network.add(str(info["run_id"]))
        except ConnectError as error:
            insight.unseen.append(f"replicas and memory of Redis: {error}")

    def _judged(self, info: Mapping[str, Any]) -> Iterator[ServerProblem]:
        """What is wrong with a Redis by what it tells of itself."""
        sentinels = self.url.scheme == SENTINEL
        if sentinels and info.get("connected_slaves") == 0:
            yield ServerProblem(
                "redis-without-replica",
                "Sentinels watch over Redis, but its master has no replica at the"
                " moment, so nothing can take over",
                "start the replicas, and see `INFO replication`",
            )
        if sentinels and not info.get("min_slaves_good_slaves"):
            yield ServerProblem(
                "redis-writes-alone",
                "a master that has lost its replicas goes on taking registrations, "
                "which nobody sees once another one has taken its place",
                "set min-replicas-to-write to 1 in all of them",
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            yield ServerProblem(
                "redis-evicts",
                "Redis drops servers when its memory is full: maxmemory-policy is"
                f" {policy}",
                "set maxmemory-policy to noeviction",
            )

    def inventory(self, names: Names) -> Inventory:
        """See `Transport`."""
        with self._records() as records:
            found = records.read(records.topics())
        own = _topic(self.url.vhost, names)
        servers = sorted(
            log_safety.line(
                f"{'/'.join(map(unquote, topic.split('/')))}: {record.server or 'any'} "
                f"at {record.endpoint}, {_encryption(record)}"
            )
            for topic, reading in found.items()
            for record in reading.records
        )
        how = (
            {_encryption(record) for record in found[own].records}
            if own in found
            else ()
        )
        note = f"; servers of this run: {' and '.join(sorted(how))}" if how else ""
        return Inventory("the matchmaker's records", {"servers": servers}, note=note)

    def census(self, look: Look) -> Census:
        """See `Transport`; clients do not register."""
        with self._records() as records:
            found = records.read(records.topics())
        census = Census("the matchmaker's records")
        for topic, reading in found.items():
            vhost, _, name = map(unquote, topic.split("/"))
            if vhost == (self.url.vhost or ""):
                for record in reading.records:
                    census.listeners[Listener(name, record.server)] += 1
        census.unseen.append(
            "clients of zmq://, and how many requests go over it: they go directly to "
            "servers"
        )
        return census

    def is_rpc(self, name: str) -> bool:
        """See `Transport`; nothing else is there."""
        return True

    def clean_up(self, names: Names) -> None:
        """See `Transport`; a killed server's record is left."""
        with self._records() as records:
            records.forget([_topic(self.url.vhost, names)])

    @contextlib.contextmanager
    def _records(self) -> Iterator[Matchmaker]:
        try:
            with self.matchmaker(self.hosts, TIMEOUT) as found:
                yield found
        except ConnectError as error:
            raise EngineError(str(error)) from error


def _agreed(sentinels: Sequence[Sentinels]) -> Iterator[ServerProblem]:
    """Whether Sentinels can replace a master, by what those tell that answer."""
    masters = {each.master for each in sentinels}
    if len(masters) > 1:
        yield ServerProblem(
            "sentinels-apart",
            f"Sentinels name different masters of Redis: {', '.join(sorted(masters))}",
            "have all of them watch over one (SENTINEL MONITOR), and see their logs",
        )
    for lacks in sorted({each.lacks for each in sentinels if each.lacks}):
        yield ServerProblem(
            "sentinels-without-quorum",
            f"Sentinels could not replace the master of Redis: {lacks}",
            "start the others, or lower the quorum: SENTINEL SET … quorum",
        )
    number = max((each.number for each in sentinels), default=_ENOUGH)
    if number < _ENOUGH:
        quorum = max(each.quorum for each in sentinels)
        yield ServerProblem(
            "sentinels-few",
            f"Sentinels that watch over Redis: {number}, of whom {quorum} have to "
            "agree that the master is lost, and most have to be there to replace it",
            "run three, each on another host",
        )


def _topic(vhost: str | None, names: Names) -> str:
    from hybrid_messaging.drivers.zmq import matchmaker

    return matchmaker.topic(vhost, names.exchange, names.topic)


def _encryption(record: Record) -> str:
    """How a server is spoken to."""
    host, _ = parse(record.endpoint)
    if record.key:
        return "CURVE"
    return "plain text on this host" if is_loopback(host) else "plain text"


def _explained(hosts: Iterable[Any], error: Exception, encrypted: bool) -> ConnectError:
    import redis
    from redis.sentinel import MasterNotFoundError

    server = ", ".join(str(urls.Host(host.hostname, host.port)) for host in hosts)
    reason = error.__cause__
    if not isinstance(reason, redis.RedisError):
        return ConnectError(
            "unreachable", str(error), "correct the option that it names"
        )
    if isinstance(reason, redis.exceptions.NoPermissionError):
        return ConnectError(
            "wrong-credentials",
            f"{server}: {reason}",
            "give the user the permissions that the documentation of the zmq driver"
            " lists",
        )
    if isinstance(reason, redis.exceptions.ReadOnlyError):
        return ConnectError(
            "redis-replica",
            f"{server} is a replica of another Redis, and accepts no registrations",
            f"name its master in the URL, or use Sentinels: {SENTINEL}://",
        )
    if isinstance(reason, redis.AuthenticationError):
        return ConnectError(
            "wrong-credentials",
            f"{server}: {reason}",
            "correct user name and password in the URL",
        )
    # Redis without TLS waits for more of what it takes for a long command
    silent = encrypted and isinstance(reason, redis.TimeoutError)
    if silent or "SSL" in str(error):
        return tls_failed(server, reason)
    if isinstance(reason, MasterNotFoundError):
        return ConnectError(
            "unreachable",
            f"{server}: {reason}",
            "correct [matchmaker_redis] sentinel_group_name, or start the master",
        )
    if isinstance(reason, (redis.ConnectionError, redis.TimeoutError)):
        return unreachable(server, reason)
    return protocol_error(server, "Redis", reason)
