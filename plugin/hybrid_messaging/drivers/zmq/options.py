# SPDX-License-Identifier: Apache-2.0
"""The options of [oslo_messaging_zmq] and [matchmaker_redis].

Names are those of the retired zmq driver (oslo.messaging 8.1, `_drivers/
zmq_driver/zmq_options.py` and `matchmaker/zmq_matchmaker_redis.py`) where they
mean the same, and their defaults too except where the comments say otherwise.
"""

from __future__ import annotations

import socket

from oslo_config import cfg

GROUP = cfg.OptGroup("oslo_messaging_zmq", title="ZeroMQ driver options")

OPTIONS = [
    # -- failing: new in this driver --
    cfg.FloatOpt(
        "restart_timeout",
        default=60.0,
        min=0,
        help="How many seconds calls and casts wait for a server to appear on a"
        " target, from the moment when nobody was found there: a server that restarts"
        " within this time is waited for. After that they fail at once, until"
        " somebody listens again. 0: fail at once.",
    ),
    cfg.FloatOpt(
        "idle_timeout",
        default=10.0,
        min=0,
        max=6553,  # what libzmq can tell its peer
        help="The heartbeat: after so many seconds without a sign of life a"
        " connection counts as lost. 0: never.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="How many seconds an attempt to connect to a server may take.",
    ),
    cfg.IntOpt(
        "default_send_timeout",
        default=60,
        min=5,
        help="Seconds that a cast may take to be taken by a server that has room for"
        " it, and that a call without a timeout may take.",
    ),
    cfg.IntOpt(
        "idle_connection_timeout",
        default=600,
        min=1,
        help="A connection to a server that has not been used for so many seconds"
        " is closed.",
    ),
    # -- flow control --
    cfg.IntOpt(
        "rpc_server_credit",
        default=100,
        min=1,
        help="How many requests may wait for the threads of a server, per target,"
        " before their senders have to wait.",
    ),
    cfg.IntOpt(
        "max_message_size",
        default=128 * 1024 * 1024,
        min=1024 * 1024,
        help="The largest message, in bytes, that is sent or taken; the same for all"
        " who talk to each other. Also how many bytes of requests may wait for the"
        " threads of a process before the senders of others have to wait.",
    ),
    cfg.IntOpt(
        "connections_per_topic",
        default=20,
        min=1,
        help="Where a topic has more servers than this, a client shares its calls and"
        " casts to any of them among so many, chosen at random. Each server's own"
        " messages and fanouts go to the servers that they are for.",
    ),
    # -- security --
    cfg.StrOpt(
        "zmq_key_directory",
        default="",
        help="A directory with CURVE keys: our own pair, made by `hybrid-messaging"
        " zmq-keys DIRECTORY`, and the public keys of all who may talk to us."
        " Everything is encrypted with them. Empty: all processes derive the same"
        " pair from the password of Redis in the transport URL and its virtual host,"
        " and encrypt what leaves the host.",
    ),
    cfg.BoolOpt(
        "plaintext_beyond_loopback",
        default=False,
        help="Do without encryption and authentication, so that everybody who reaches"
        " the port of a server can call it and read what others send: servers listen"
        " in plain text, and clients talk to such servers. Without it, a server that"
        " has no keys listens on the loopback interface only, and refuses to start"
        " elsewhere. It counts for nothing with zmq_key_directory.",
    ),
    # options of [matchmaker_redis] cannot stand in a transport URL
    cfg.StrOpt(
        "zmq_redis_ca_file",
        default="",
        help="What [matchmaker_redis] ssl_ca_file is, and before it: CA certificates"
        " (PEM) for TLS with Redis. A transport URL can name it.",
    ),
    # -- where servers listen --
    cfg.HostAddressOpt(
        "rpc_zmq_bind_address",
        # '*' in the retired driver: the same, but not an address
        default="0.0.0.0",  # noqa: S104
        help="The address that servers listen on: an IP address of this host, or"
        " 0.0.0.0 or :: for all.",
    ),
    cfg.HostAddressOpt(
        "rpc_zmq_host",
        sample_default="host name",
        help="The name or address under which clients reach servers on this host."
        " Default: rpc_zmq_bind_address, or where that stands for all the name"
        " of this host.",
    ),
    cfg.PortOpt(
        "rpc_zmq_min_port",
        default=49153,
        min=1,
        help="The first port that a server may listen on.",
    ),
    # 65536 in the retired driver, which is no port
    cfg.PortOpt(
        "rpc_zmq_max_port",
        default=65535,
        min=1,
        help="The last port that a server may listen on.",
    ),
    cfg.IntOpt(
        "rpc_zmq_bind_port_retries",
        default=100,
        min=1,
        help="How many ports of that range, chosen at random, are tried.",
    ),
    # -- the matchmaker --
    cfg.StrOpt(
        "rpc_zmq_matchmaker",
        default="redis",
        choices=[
            ("redis", "the Redis server that the transport URL names"),
            ("sentinel", "the master that the Sentinels of the transport URL name"),
            ("static", "zmq_static_file"),
        ],
        help="Where servers tell that they are there, if the transport URL does not"
        " say so itself (zmq+sentinel://, for example).",
    ),
    cfg.StrOpt(
        "zmq_static_file",
        default="",
        help="The file of the static matchmaker: lines of exchange, topic, server"
        " and host:port.",
    ),
    cfg.BoolOpt(
        "use_router_proxy",
        default=False,
        help="Send through the proxies that the matchmaker knows (`hybrid-messaging"
        " zmq-proxy`), instead of connecting to every server.",
    ),
    # 300 and 180 in the retired driver, where a dead server was called so long
    cfg.IntOpt(
        "zmq_target_expire",
        default=60,
        min=3,
        help="Seconds after which a server is forgotten that has not renewed its"
        " registration.",
    ),
    cfg.IntOpt(
        "zmq_target_update",
        default=20,
        min=1,
        help="Seconds between two renewals of a registration.",
    ),
]

REDIS_GROUP = cfg.OptGroup(
    "matchmaker_redis", title="ZeroMQ driver: Redis as its matchmaker"
)

REDIS_OPTIONS = [
    cfg.StrOpt(
        "sentinel_group_name",
        default="oslo-messaging-zeromq",
        help="The name by which Sentinels know the master.",
    ),
    cfg.StrOpt(
        "sentinel_username", help="User of the Sentinels, if they want to know one."
    ),
    cfg.StrOpt(
        "sentinel_password",
        secret=True,
        help="Password of the Sentinels, if they want one.",
    ),
    cfg.IntOpt("database", default=0, min=0, help="Number of the database."),
    # 10000 in the retired driver, where a call waited for it
    cfg.IntOpt(
        "socket_timeout",
        default=3000,
        min=100,
        help="Milliseconds that Redis may take to answer.",
    ),
    cfg.BoolOpt(
        "ssl",
        default=False,
        help="Connect with TLS. The certificate of Redis is always verified, without"
        " ssl_ca_file by the system's certificates.",
    ),
    cfg.StrOpt(
        "ssl_ca_file", default="", help="CA certificates (PEM); switches TLS on."
    ),
    cfg.StrOpt(
        "ssl_cert_file",
        default="",
        help="Our own certificate (PEM), if Redis wants one; switches TLS on.",
    ),
    cfg.StrOpt(
        "ssl_key_file", default="", help="The private key (PEM) of ssl_cert_file."
    ),
]

#: Addresses that stand for all of a host's.
_ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104


def host(options: object) -> str:
    """Under which name or address clients reach a server with these options."""
    told: str | None = getattr(options, "rpc_zmq_host", None)
    bound: str = getattr(options, "rpc_zmq_bind_address", "")
    return told or (socket.gethostname() if bound in _ALL else bound)


def too_large(what: str, size: int, limit: int) -> str:
    """What to say of a message.

    :param size: bytes
    :param limit: bytes
    """
    return (
        f"{what} has {size} bytes, and [oslo_messaging_zmq] max_message_size allows"
        f" {limit}"
    )
