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
        help="Seconds that calls and casts wait for a server when none listens on"
        " their target. The time starts when this process first finds no listener, so"
        " a server that restarts within it loses no calls. After that, messages to"
        " the target fail at once until a server listens again. 0: fail at once.",
    ),
    cfg.FloatOpt(
        "idle_timeout",
        default=10.0,
        min=0,
        max=6553,  # what libzmq can send its peer
        help="Heartbeat: seconds without traffic after which a connection counts as"
        " lost. 0: never.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="Seconds that an attempt to connect to a server may take.",
    ),
    cfg.IntOpt(
        "default_send_timeout",
        default=60,
        min=5,
        help="Seconds that a cast may wait for a server with room for it, and timeout"
        " of a call that has none.",
    ),
    cfg.IntOpt(
        "idle_connection_timeout",
        default=600,
        min=1,
        help="Seconds after which an unused connection to a server is closed.",
    ),
    # -- flow control --
    cfg.IntOpt(
        "rpc_server_credit",
        default=100,
        min=1,
        help="Number of requests per target that may wait for the threads of a server"
        " before senders have to wait.",
    ),
    cfg.IntOpt(
        "max_message_size",
        default=128 * 1024 * 1024,
        min=1024 * 1024,
        help="Largest message, in bytes, that is sent or accepted; use the same value"
        " everywhere. Also the bytes of requests that may wait for the threads of a"
        " process before other senders have to wait.",
    ),
    cfg.IntOpt(
        "connections_per_topic",
        default=20,
        min=1,
        help="If a topic has more servers than this, a client shares calls and casts"
        " to any of them among this many, chosen at random. Messages to one server"
        " and fanouts always go to the servers that they are for.",
    ),
    # -- security --
    cfg.StrOpt(
        "zmq_key_directory",
        default="",
        help="Directory with CURVE keys: this host's pair, made by `hybrid-messaging"
        " zmq-keys DIRECTORY`, and the public keys of all hosts that may talk to it."
        " All traffic is encrypted with these keys. Empty: all processes derive the"
        " same pair from the password of Redis in the transport URL, and encrypt what"
        " leaves the host.",
    ),
    cfg.BoolOpt(
        "plaintext_beyond_loopback",
        default=False,
        help="Disable encryption and authentication beyond the loopback interface:"
        " servers listen in plain text, and clients connect to such servers. Anyone"
        " who reaches the port of a server can call it and read its traffic. If"
        " false, a server without keys refuses to listen elsewhere than on the"
        " loopback interface. Has no effect with zmq_key_directory.",
    ),
    # options of [matchmaker_redis] cannot stand in a transport URL
    cfg.StrOpt(
        "zmq_redis_ca_file",
        default="",
        help="CA certificates (PEM) for TLS with Redis. Takes precedence over"
        " [matchmaker_redis] ssl_ca_file, and can stand in a transport URL.",
    ),
    # -- where servers listen --
    cfg.HostAddressOpt(
        "rpc_zmq_bind_address",
        # '*' in the retired driver: the same, but not an address
        default="0.0.0.0",  # noqa: S104
        help="Address that servers listen on: an IP address of this host, or 0.0.0.0"
        " or :: for all.",
    ),
    cfg.HostAddressOpt(
        "rpc_zmq_host",
        sample_default="host name",
        help="Name or address under which clients reach servers on this host. Default:"
        " rpc_zmq_bind_address, or the name of this host if servers listen on all"
        " addresses.",
    ),
    cfg.PortOpt(
        "rpc_zmq_min_port",
        default=49153,
        min=1,
        help="First port that a server may listen on.",
    ),
    # 65536 in the retired driver, which is no port
    cfg.PortOpt(
        "rpc_zmq_max_port",
        default=65535,
        min=1,
        help="Last port that a server may listen on.",
    ),
    cfg.IntOpt(
        "rpc_zmq_bind_port_retries",
        default=100,
        min=1,
        help="Number of ports in that range to try, chosen at random.",
    ),
    # -- the matchmaker --
    cfg.StrOpt(
        "rpc_zmq_matchmaker",
        default="redis",
        choices=[
            ("redis", "the Redis server in the transport URL"),
            ("sentinel", "the master that the Sentinels in the transport URL name"),
            ("static", "zmq_static_file"),
        ],
        help="Where servers register, unless the scheme of the transport URL says so"
        " (for example zmq+sentinel://).",
    ),
    cfg.StrOpt(
        "zmq_static_file",
        default="",
        help="File of the static matchmaker; each line has exchange, topic, server and"
        " host:port.",
    ),
    cfg.BoolOpt(
        "use_router_proxy",
        default=False,
        help="Send through the proxies that the matchmaker knows (`hybrid-messaging"
        " zmq-proxy`) instead of connecting to every server.",
    ),
    # 300 and 180 in the retired driver, where a dead server was called so long
    cfg.IntOpt(
        "zmq_target_expire",
        default=60,
        min=3,
        help="Seconds after which a server that has not renewed its registration is"
        " forgotten.",
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
        help="Name by which the Sentinels know the master.",
    ),
    cfg.StrOpt(
        "sentinel_username", help="User name for the Sentinels, if they need one."
    ),
    cfg.StrOpt(
        "sentinel_password",
        secret=True,
        help="Password for the Sentinels, if they need one.",
    ),
    cfg.IntOpt("database", default=0, min=0, help="Number of the database."),
    # 10000 in the retired driver, where a call waited for it
    cfg.IntOpt(
        "socket_timeout",
        default=3000,
        min=100,
        help="Milliseconds to wait for an answer of Redis.",
    ),
    cfg.BoolOpt(
        "ssl",
        default=False,
        help="Connect with TLS. The certificate of Redis is always verified; without"
        " ssl_ca_file, with the CA certificates of the system.",
    ),
    cfg.StrOpt("ssl_ca_file", default="", help="CA certificates (PEM); enables TLS."),
    cfg.StrOpt(
        "ssl_cert_file",
        default="",
        help="Client certificate (PEM), if Redis needs one; enables TLS.",
    ),
    cfg.StrOpt("ssl_key_file", default="", help="Private key (PEM) of ssl_cert_file."),
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
