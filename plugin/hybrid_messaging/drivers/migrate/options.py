# SPDX-License-Identifier: Apache-2.0
"""The options of [oslo_messaging_migrate]."""

from oslo_config import cfg

GROUP = cfg.OptGroup("oslo_messaging_migrate", title="Moving from one bus to another")

OPTIONS = [
    cfg.StrOpt(
        "from_url",
        secret=True,
        help="Transport URL of the bus that services move away from, such as rabbit://."
        " The rest of the migrate+ URL is the bus that they move to. This option is for"
        " all migrate+ URLs of a service. from_url in the query of a URL, where it is"
        " percent-encoded, takes precedence.",
    ),
    cfg.FloatOpt(
        "restart_timeout",
        default=60.0,
        min=0,
        help="Seconds that calls and casts wait for a server when none listens on their"
        " target on either bus. The time starts when this process first finds no"
        " listener. After that, they fail at once until a server listens again; if the"
        " target was never seen on the new bus, they go to the old one. The options of"
        " the same name of the two buses have no effect on that.",
    ),
]
