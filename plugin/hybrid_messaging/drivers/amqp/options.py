# SPDX-License-Identifier: Apache-2.0
"""The options of [oslo_messaging_amqp].

Names and defaults are those of the retired amqp1 driver (oslo.messaging 14.9,
`_drivers/amqp1_driver/opts.py`) except where the comments say otherwise.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup("oslo_messaging_amqp", title="AMQP 1.0 driver options")

OPTIONS = [
    # -- servers that are away: new in this driver --
    cfg.FloatOpt(
        "restart_timeout",
        default=60.0,
        min=0,
        help="Seconds that calls and casts wait for a server when none listens on"
        " their target. The time starts when this process first finds no listener, so"
        " a server that restarts within it loses no calls. After that, messages to"
        " the target fail at once until a server listens again. 0: fail at once.",
    ),
    # -- connection --
    cfg.StrOpt(
        "container_name",
        help="Name of the AMQP container, unique on the bus. Default: generated.",
    ),
    # 0 in the retired driver: a peer that had vanished went unnoticed
    cfg.IntOpt(
        "idle_timeout",
        default=10,
        min=0,
        help="Heartbeat: seconds without traffic after which a connection counts as"
        " lost. Both ends send heartbeats at least twice in this time. How soon a"
        " router notices that a server's host has vanished depends on the router's"
        " own setting (idleTimeoutSeconds). 0: never.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="Seconds that one attempt to connect to an address may take, including"
        " the TLS, SASL and AMQP handshakes.",
    ),
    cfg.BoolOpt(
        "trace",
        default=False,
        help="For debugging: print every AMQP frame to standard error.",
    ),
    cfg.IntOpt(
        "connection_retry_interval",
        default=1,
        min=1,
        help="Seconds before the second attempt to reconnect; the first is made at"
        " once. While a message waits to be sent, no pause is longer than this. Each"
        " pause is shortened at random, by up to half.",
    ),
    # documented as additive in the retired driver, which multiplied
    cfg.IntOpt(
        "connection_retry_backoff",
        default=2,
        min=0,
        help="Factor by which the pause grows with each failed attempt; 0 or 1: it"
        " stays the same.",
    ),
    # 30 in the retired driver: after an outage of 20 seconds its clients came back up
    # to 28 seconds late. Three seconds are less than a router takes to start, and a
    # thousand clients make no more than 500 attempts a second then.
    cfg.IntOpt(
        "connection_retry_interval_max",
        default=3,
        min=1,
        help="Longest pause between two attempts to reconnect, in seconds.",
    ),
    cfg.IntOpt(
        "link_retry_delay",
        default=10,
        min=1,
        help="Seconds before a server attaches a subscription again after the bus has"
        " detached it.",
    ),
    cfg.FloatOpt(
        "rebalance_interval",
        default=300.0,
        min=0,
        help="Seconds after which a process that is connected to another host than its"
        " own tries to move back, varied at random by up to half, so that a host that"
        " has returned gets clients again. Each process takes one of the hosts in the"
        " transport URL at random as its own. 0: it stays where it is.",
    ),
    # -- TLS --
    cfg.BoolOpt(
        "ssl",
        default=False,
        help="Connect with TLS. Without ssl_ca_file, the certificate of the bus is"
        " verified with the CA certificates of the system.",
    ),
    cfg.StrOpt(
        "ssl_ca_file",
        default="",
        help="CA certificates (PEM) that verify the certificate of the bus; enables"
        " TLS.",
    ),
    cfg.StrOpt(
        "ssl_cert_file",
        default="",
        help="Client certificate (PEM) for authentication; enables TLS.",
    ),
    cfg.StrOpt(
        "ssl_key_file",
        default="",
        help="Private key (PEM) of ssl_cert_file, if it is in a separate file.",
    ),
    cfg.StrOpt(
        "ssl_key_password",
        secret=True,
        help="Password of ssl_key_file, if it is encrypted.",
    ),
    # not in the retired driver; openstack-ansible writes it into every URL with TLS
    cfg.StrOpt(
        "ssl_version",
        default="TLSv1_2",
        choices=["TLSv1_2", "TLSv1_3"],
        help="Oldest TLS version to accept.",
    ),
    cfg.BoolOpt(
        "ssl_verify_vhost",
        default=False,
        help="Expect the certificate of the bus to name the virtual host of the"
        " transport URL instead of its host.",
    ),
    # -- SASL --
    cfg.StrOpt(
        "sasl_mechanisms",
        default="",
        help="SASL mechanisms to use, separated by spaces. Default: any with a user in"
        " the URL; otherwise EXTERNAL with ssl_cert_file, and ANONYMOUS.",
    ),
    cfg.StrOpt(
        "sasl_config_dir", default="", help="Directory of the Cyrus SASL configuration."
    ),
    cfg.StrOpt(
        "sasl_config_name",
        default="",
        help="Name of the Cyrus SASL configuration file, without .conf.",
    ),
    cfg.StrOpt(
        "sasl_default_realm",
        default="",
        help="SASL realm to append to user names that have none (user@realm).",
    ),
    # -- delivery --
    cfg.IntOpt(
        "default_reply_retry",
        default=0,
        min=-1,
        help="How often a reply that the bus could not forward is sent again; -1:"
        " until default_reply_timeout.",
    ),
    cfg.IntOpt(
        "default_reply_timeout",
        default=30,
        min=5,
        help="Seconds that a server keeps trying to send a reply.",
    ),
    # 30 in the retired driver: services that restart may need longer
    cfg.IntOpt(
        "default_send_timeout",
        default=60,
        min=5,
        help="Seconds that a cast may wait for a server with room for it, and timeout"
        " of a call that has none.",
    ),
    cfg.IntOpt(
        "default_notify_timeout",
        default=30,
        min=5,
        help="Seconds that a notification may wait until the broker has it, including"
        " repeated attempts.",
    ),
    cfg.IntOpt(
        "default_sender_link_timeout",
        default=600,
        min=1,
        help="Seconds after which an unused link to a target is detached.",
    ),
    # rpc-cast was a default in the retired driver: a cast to nobody vanished
    cfg.MultiStrOpt(
        "pre_settled",
        default=["rpc-reply"],
        help="Kinds of messages that are sent without asking for confirmation:"
        " rpc-call, rpc-reply, rpc-cast, notify. With rpc-call, a caller does not"
        " learn that no server listens or that the server died.",
    ),
    # -- flow control --
    cfg.IntOpt(
        "reply_link_credit",
        default=200,
        min=1,
        help="Number of replies that may be on their way to a client at a time.",
    ),
    cfg.IntOpt(
        "rpc_server_credit",
        default=100,
        min=1,
        help="Number of requests per address that may be on their way to a server or"
        " wait in it.",
    ),
    cfg.IntOpt(
        "notify_server_credit",
        default=100,
        min=1,
        help="Number of notifications per address that may be on their way to a"
        " listener or wait in it.",
    ),
    # -- addresses --
    cfg.StrOpt(
        "addressing_mode",
        default="dynamic",
        choices=[
            ("dynamic", "legacy on qpidd, routable on all others"),
            ("routable", "addresses by prefix, for routers"),
            ("legacy", "dotted addresses, for qpidd"),
        ],
        help="Format of the addresses on the bus.",
    ),
    cfg.BoolOpt(
        "pseudo_vhost",
        default=True,
        help="Put the virtual host into every address. If false, it is sent as the"
        " hostname in AMQP's Open, for a bus that has virtual hosts itself.",
    ),
    cfg.StrOpt(
        "rpc_address_prefix",
        default="openstack.org/om/rpc",
        help="Routable addresses: prefix of all RPC addresses.",
    ),
    cfg.StrOpt(
        "notify_address_prefix",
        default="openstack.org/om/notify",
        help="Routable addresses: prefix of all notification addresses.",
    ),
    cfg.StrOpt(
        "multicast_address",
        default="multicast",
        help="Routable addresses: what follows the prefix for fanouts.",
    ),
    cfg.StrOpt(
        "unicast_address",
        default="unicast",
        help="Routable addresses: what follows the prefix for messages to one server.",
    ),
    cfg.StrOpt(
        "anycast_address",
        default="anycast",
        help="Routable addresses: what follows the prefix for messages to any server.",
    ),
    cfg.StrOpt(
        "server_request_prefix",
        default="exclusive",
        help="Legacy addresses: prefix of messages to one server.",
    ),
    cfg.StrOpt(
        "broadcast_prefix",
        default="broadcast",
        help="Legacy addresses: prefix of fanout messages.",
    ),
    cfg.StrOpt(
        "group_request_prefix",
        default="unicast",
        help="Legacy addresses: prefix of messages to any server.",
    ),
    cfg.StrOpt(
        "default_notification_exchange",
        help="Exchange of notifications whose target has none. Default:"
        " control_exchange.",
    ),
    cfg.StrOpt(
        "default_rpc_exchange",
        help="Exchange of RPC whose target has none. Default: control_exchange.",
    ),
]

#: What pre_settled may name.
KINDS = frozenset({"rpc-call", "rpc-reply", "rpc-cast", "notify"})
