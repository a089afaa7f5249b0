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
        help="For how many seconds calls and casts wait for the servers of a target"
        " that nobody listens on, counted from the moment when this process first"
        " found nobody there: a server that restarts within this time is waited for."
        " After that they fail at once, until somebody listens again. 0: fail at"
        " once.",
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
        help="The heartbeat: after so many seconds without a sign of life the"
        " connection counts as lost; both ends send one at least every half of"
        " it. A server whose host vanishes is noticed by the router within the"
        " router's own setting (idleTimeoutSeconds). 0: never.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="How many seconds an attempt to connect to one address may take,"
        " with its TLS, SASL and AMQP handshakes.",
    ),
    cfg.BoolOpt(
        "trace", default=False, help="Debug: print every AMQP frame to stderr."
    ),
    cfg.IntOpt(
        "connection_retry_interval",
        default=1,
        min=1,
        help="Seconds before the second attempt to reconnect; the first is made at"
        " once. No pause is longer while somebody waits to send. Every pause is"
        " shortened by a random part of up to a half.",
    ),
    # documented as additive in the retired driver, which multiplied
    cfg.IntOpt(
        "connection_retry_backoff",
        default=2,
        min=0,
        help="Factor by which the delay grows with each failed attempt; 0 or 1:"
        " it stays the same.",
    ),
    # 30 in the retired driver: after an outage of 20 seconds its clients came back up
    # to 28 seconds late. Three seconds are less than a router takes to start, and a
    # thousand clients make no more than 500 attempts a second then.
    cfg.IntOpt(
        "connection_retry_interval_max",
        default=3,
        min=1,
        help="The longest delay between two attempts to reconnect, in seconds.",
    ),
    cfg.IntOpt(
        "link_retry_delay",
        default=10,
        min=1,
        help="Seconds before a server attaches a subscription again that the bus"
        " has detached.",
    ),
    # -- TLS --
    cfg.BoolOpt(
        "ssl",
        default=False,
        help="Connect with TLS. Without ssl_ca_file the system's certificates"
        " verify the bus.",
    ),
    cfg.StrOpt(
        "ssl_ca_file",
        default="",
        help="CA certificates (PEM) that verify the bus; switches TLS on.",
    ),
    cfg.StrOpt(
        "ssl_cert_file",
        default="",
        help="Our own certificate (PEM) for client authentication; switches TLS on.",
    ),
    cfg.StrOpt(
        "ssl_key_file",
        default="",
        help="Private key (PEM) of ssl_cert_file, if not in the same file.",
    ),
    cfg.StrOpt(
        "ssl_key_password", secret=True, help="Password of ssl_key_file, if it has one."
    ),
    # not in the retired driver; openstack-ansible writes it into every URL with TLS
    cfg.StrOpt(
        "ssl_version",
        default="TLSv1_2",
        choices=["TLSv1_2", "TLSv1_3"],
        help="The oldest version of TLS to speak.",
    ),
    cfg.BoolOpt(
        "ssl_verify_vhost",
        default=False,
        help="The bus' certificate names the virtual host of the transport URL"
        " instead of its host.",
    ),
    # -- SASL --
    cfg.StrOpt(
        "sasl_mechanisms",
        default="",
        help="Acceptable SASL mechanisms, separated by spaces. Default: any with a"
        " user in the URL; else EXTERNAL with ssl_cert_file, and ANONYMOUS.",
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
        help="SASL realm of user names that have none (user@realm).",
    ),
    # -- delivery --
    cfg.IntOpt(
        "default_reply_retry",
        default=0,
        min=-1,
        help="How often a reply is sent again that the bus could not forward;"
        " -1: until default_reply_timeout.",
    ),
    cfg.IntOpt(
        "default_reply_timeout",
        default=30,
        min=5,
        help="Seconds that a server tries to send a reply.",
    ),
    # 30 in the retired driver: services that restart may need longer
    cfg.IntOpt(
        "default_send_timeout",
        default=60,
        min=5,
        help="Seconds that a cast may take to be handed to a server that has room for"
        " it, and that a call without a timeout may take.",
    ),
    cfg.IntOpt(
        "default_notify_timeout",
        default=30,
        min=5,
        help="Seconds that a notification may take to be handed to the broker, however"
        " often it may be sent again.",
    ),
    cfg.IntOpt(
        "default_sender_link_timeout",
        default=600,
        min=1,
        help="A link to a target that has not been used for so many seconds is"
        " detached.",
    ),
    # rpc-cast was a default in the retired driver: a cast to nobody vanished
    cfg.MultiStrOpt(
        "pre_settled",
        default=["rpc-reply"],
        help="Kinds of messages that are sent without asking whether they arrived:"
        " rpc-call, rpc-reply, rpc-cast, notify. A call that is pre-settled learns"
        " neither that nobody is there nor that its server died.",
    ),
    # -- flow control --
    cfg.IntOpt(
        "reply_link_credit",
        default=200,
        min=1,
        help="How many replies may be under way to a client.",
    ),
    cfg.IntOpt(
        "rpc_server_credit",
        default=100,
        min=1,
        help="How many requests may be under way to a server, or wait in it, per"
        " address.",
    ),
    cfg.IntOpt(
        "notify_server_credit",
        default=100,
        min=1,
        help="How many notifications may be under way to a listener, or wait in it,"
        " per address.",
    ),
    # -- addresses --
    cfg.StrOpt(
        "addressing_mode",
        default="dynamic",
        choices=[
            ("dynamic", "legacy on qpidd, routable on everything else"),
            ("routable", "addresses by prefix, for routers"),
            ("legacy", "dotted addresses, for qpidd"),
        ],
        help="The form of addresses on the bus.",
    ),
    cfg.BoolOpt(
        "pseudo_vhost",
        default=True,
        help="Put the virtual host into every address. Off: into the hostname of"
        " AMQP's Open, for a bus that has virtual hosts of its own.",
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
        help="Routable addresses: follows the prefix of fanout messages.",
    ),
    cfg.StrOpt(
        "unicast_address",
        default="unicast",
        help="Routable addresses: follows the prefix of messages to one server.",
    ),
    cfg.StrOpt(
        "anycast_address",
        default="anycast",
        help="Routable addresses: follows the prefix of messages to any server.",
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
        help="Exchange of notifications whose target names none; default:"
        " control_exchange.",
    ),
    cfg.StrOpt(
        "default_rpc_exchange",
        help="Exchange of RPC whose target names none; default: control_exchange.",
    ),
]

#: What pre_settled may name.
KINDS = frozenset({"rpc-call", "rpc-reply", "rpc-cast", "notify"})
