# SPDX-License-Identifier: Apache-2.0
"""Whether there is one Redis that is written, replicas in sync, and Sentinels agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hybrid_messaging import tls, urls
from hybrid_messaging.cluster import credentials
from hybrid_messaging.cluster.findings import (
    Access,
    Finding,
    error,
    ok,
    unequal_versions,
    warning,
)
from hybrid_messaging.cluster.redis import GROUP, LAG, quorum
from hybrid_messaging.cluster.topology import REDIS, SENTINEL, Host


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at all Redis.

    :param each: `map`, or one that does it all at once
    """
    hosts = access.topology.having(REDIS)
    found: dict[Host, dict[str, Any]] = {}
    for host, said in zip(
        hosts, each(lambda host: _ask(access, host), hosts), strict=True
    ):
        if isinstance(said, str):
            yield error(REDIS, host, f"{said}: start its Redis")
        else:
            found[host] = said
    masters = [host for host, info in found.items() if info["role"] == "master"]
    if len(masters) > 1:
        names = ", ".join(host.name for host in masters)
        yield error(
            REDIS,
            None,
            f"{names} each claim to be the master: Sentinels demote the wrong "
            "one within seconds; if they do not, look at their logs",
        )
    elif found and not masters:
        yield error(
            REDIS,
            None,
            "no Redis that can be reached is the master, so servers cannot register: "
            "Sentinels appoint one within seconds, if most of them are there",
        )
    for host, info in found.items():
        if host in masters:
            yield from _judge_master(host, info, len(hosts) - 1)
        else:
            yield _judge_replica(host, info)
    yield from unequal_versions(
        REDIS, {host.name: info["redis_version"] for host, info in found.items()}
    )


def check_sentinels(
    access: Access, each: Callable[..., Iterable[Any]]
) -> Iterator[Finding]:
    """Look at all Sentinels.

    :param each: `map`, or one that does it all at once
    """
    hosts = access.topology.having(SENTINEL)
    known = {host.address: host.name for host in access.topology.having(REDIS)}
    masters: dict[Host, str] = {}
    for host, said in zip(
        hosts, each(lambda host: _ask_sentinel(access, host), hosts), strict=True
    ):
        if isinstance(said, str):
            yield error(SENTINEL, host, f"{said}: start its Sentinel")
            continue
        masters[host] = str(said["ip"])
        others, wanted = int(said["num-other-sentinels"]), len(hosts) - 1
        master = known.get(masters[host], masters[host])
        if "down" in str(said["flags"]):
            yield error(SENTINEL, host, f"considers the master {master} lost")
        elif others < wanted:
            yield error(
                SENTINEL,
                host,
                f"knows {others} of {wanted} other Sentinels: open port "
                f"{access.topology.ports['sentinel']} between these hosts",
            )
        else:
            yield ok(SENTINEL, host, f"the master is {master}; knows all Sentinels")
    if len(set(masters.values())) > 1:
        yield error(
            SENTINEL,
            None,
            "Sentinels name different masters: "
            + ", ".join(
                f"{host.name} {known.get(address, address)}"
                for host, address in masters.items()
            ),
        )
    if masters and len(masters) < quorum(access.topology):
        yield error(
            SENTINEL,
            None,
            f"{len(masters)} of {len(hosts)} Sentinels answer: too few to replace a "
            "lost master",
        )


def time_of(access: Access, host: Host) -> float | None:
    """The time at a Redis, in seconds since 1970; None if it does not answer."""
    try:
        with _redis(access, host) as client:
            seconds, microseconds = client.time()
    except redis.RedisError:
        return None
    return float(seconds + microseconds / 1e6)


def _judge_master(host: Host, info: dict[str, Any], wanted: int) -> Iterator[Finding]:
    in_sync = sum(
        1
        for name, replica in info.items()
        if name.startswith("slave")
        and isinstance(replica, dict)
        and replica.get("state") == "online"
        # one that has vanished is online for a minute
        and int(replica.get("lag", 0)) <= LAG
    )
    if in_sync < wanted:
        none = in_sync == 0
        yield (error if none else warning)(
            REDIS,
            host,
            f"master, {in_sync} of {wanted} replicas in sync"
            + ("; it cannot be written" if none else ""),
        )
    else:
        yield ok(REDIS, host, f"Redis {info['redis_version']}, master, all in sync")


def _judge_replica(host: Host, info: dict[str, Any]) -> Finding:
    if info.get("master_link_status") != "up":
        return error(
            REDIS,
            host,
            f"replica of {info.get('master_host')} without a connection to it: look at "
            "its log",
        )
    return ok(
        REDIS,
        host,
        f"Redis {info['redis_version']}, replica of {info['master_host']}, in sync",
    )


def _ask(access: Access, host: Host) -> dict[str, Any] | str:
    try:
        with _redis(access, host) as client:
            return dict(client.info())
    except redis.RedisError as failure:
        where = urls.Host(host.address, access.topology.ports["redis"])
        return f"{where} fails: {failure}"


def _ask_sentinel(access: Access, host: Host) -> dict[str, Any] | str:
    port = access.topology.ports["sentinel"]
    try:
        with _client(access, host, port) as client:
            return dict(client.sentinel_master(GROUP))
    except redis.RedisError as failure:
        return f"{urls.Host(host.address, port)} fails: {failure}"


def _redis(access: Access, host: Host) -> redis.Redis:
    port, password = access.topology.ports["redis"], access.secrets.redis
    return _client(access, host, port, credentials.SERVICE, password)


def _client(
    access: Access,
    host: Host,
    port: int,
    username: str | None = None,
    password: str | None = None,
) -> redis.Redis:
    return redis.Redis(
        host=host.address,
        port=port,
        username=username,
        password=password,
        ssl=access.ca_file is not None,
        ssl_ca_certs=access.ca_file,
        ssl_check_hostname=True,
        ssl_min_version=tls.OLDEST,
        socket_timeout=access.timeout,
        socket_connect_timeout=access.timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
