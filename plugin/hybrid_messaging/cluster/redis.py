# SPDX-License-Identifier: Apache-2.0
"""Redis on the hosts of a cluster, and the Sentinels that appoint its master."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from hybrid_messaging import tls
from hybrid_messaging.cluster import credentials, units
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import REDIS, SENTINEL, Host, Topology
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import templates
from hybrid_messaging.engines.kinds.redis import MEMORY_LIMIT, RIGHTS

#: By which Sentinels know the master: the default of the driver.
GROUP = "oslo-messaging-zeromq"
#: Milliseconds after which a silent master counts as lost, and that one attempt to
#: replace it may take.
DOWN_AFTER, FAILOVER_TIMEOUT = 3000, 10_000
#: Seconds that a replica may lag for a master to be written.
LAG = 5

#: What a replica and a Sentinel do at a Redis:
#: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
_REPLICA_RIGHTS = "+psync +replconf +ping"
_SENTINEL_RIGHTS = (
    "allchannels +multi +slaveof +replicaof +ping +exec +subscribe +psubscribe "
    "+config|rewrite +role +publish +info +client|setname +client|kill +script|kill"
)
#: What services ask a Sentinel; none of that changes anything.
_ASKING = (
    "+auth +hello +ping +info +role +client|setname "
    "+sentinel|masters +sentinel|master +sentinel|replicas +sentinel|slaves "
    "+sentinel|sentinels +sentinel|get-master-addr-by-name +sentinel|ckquorum "
    "+sentinel|myid"
)


def quorum(topology: Topology) -> int:
    """How many Sentinels have to agree that the master is lost."""
    return len(topology.having(SENTINEL)) // 2 + 1


def files(
    topology: Topology, host: Host, secrets: Credentials
) -> Iterator[File | units.Unit]:
    """What the Redis of a host needs."""
    text = templates.render(
        "cluster-redis.conf",
        host=host,
        master=topology.having(REDIS)[0],
        replicated=len(topology.having(REDIS)) > 1,
        ports=topology.ports,
        tls=topology.tls,
        versions=tls.VERSIONS,
        directory=topology.directory,
        state=topology.state,
        users=(
            (
                credentials.SERVICE,
                _hash(secrets.redis),
                f"~hybrid-messaging:* {RIGHTS}",
            ),
            (credentials.REPLICA, _hash(secrets.redis_replica), _REPLICA_RIGHTS),
            (credentials.SENTINEL, _hash(secrets.redis_sentinel), _SENTINEL_RIGHTS),
        ),
        replica_user=credentials.REPLICA,
        replica_password=secrets.redis_replica,
        lag=LAG,
        memory_limit=MEMORY_LIMIT,
    )
    yield File(PurePosixPath("redis/redis.conf"), text.encode())
    yield _unit(topology, REDIS, "Redis")


def sentinel_files(
    topology: Topology, host: Host, secrets: Credentials
) -> Iterator[File | units.Unit]:
    """What the Sentinel of a host needs."""
    text = templates.render(
        "cluster-sentinel.conf",
        host=host,
        master=topology.having(REDIS)[0],
        group=GROUP,
        quorum=quorum(topology),
        ports=topology.ports,
        tls=topology.tls,
        versions=tls.VERSIONS,
        directory=topology.directory,
        state=topology.state,
        asking=_ASKING,
        sentinel_user=credentials.SENTINEL,
        sentinel_password=secrets.redis_sentinel,
        sentinel_hash=_hash(secrets.redis_sentinel),
        down_after=DOWN_AFTER,
        failover_timeout=FAILOVER_TIMEOUT,
    )
    yield File(PurePosixPath("sentinel/sentinel.conf"), text.encode())
    yield _unit(topology, SENTINEL, "Redis Sentinel", " --sentinel")


def _unit(topology: Topology, name: str, title: str, option: str = "") -> units.Unit:
    state = f"{topology.state}/{name}"
    rendered, used = f"{topology.directory}/{name}/{name}.conf", f"{state}/{name}.conf"
    return units.Unit(
        name,
        title,
        f"{topology.programs['redis-server']} {used}{option}",
        (units.directory(state), units.kept(rendered, used)),
    )


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
