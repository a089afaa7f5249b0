# SPDX-License-Identifier: Apache-2.0
"""The options of [oslo_messaging_migrate]."""

from oslo_config import cfg

GROUP = cfg.OptGroup("oslo_messaging_migrate", title="Moving from one bus to another")

OPTIONS = [
    cfg.StrOpt(
        "from_url",
        secret=True,
        help="Transport URL of the bus that services move away from, such as rabbit://."
        " The bus that they move to is the rest of the migrate+ URL. In the query of a"
        " URL it is percent-encoded, and there it wins over this option, which holds"
        " for all migrate+ URLs of a service.",
    ),
    cfg.FloatOpt(
        "restart_timeout",
        default=60.0,
        min=0,
        help="For how many seconds calls and casts wait for the servers of a target"
        " that nobody listens on, on either bus, counted from the moment when this"
        " process first found nobody there. After that they fail at once, until"
        " somebody listens again; if the target was never seen on the new bus, they go"
        " to the old one. The option of the same name of either bus does not count"
        " here.",
    ),
]
