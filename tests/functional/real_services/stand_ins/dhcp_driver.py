# SPDX-License-Identifier: Apache-2.0
"""A driver for Neutron's DHCP agent that runs no DHCP server.

There are no devices to run one on. What the agent says to neutron-server, and hears
from it, stays as it is. Runs in the services' environment.
"""

from neutron.agent.linux import dhcp


class NoServer(dhcp.DhcpBase):
    """Takes every order and does nothing."""

    active = True

    def _nothing(self, *args, **options):
        return True

    enable = disable = restart = release_lease = reload_allocations = _nothing
    clean_devices = _nothing

    @classmethod
    def existing_dhcp_networks(cls, conf):
        return []

    @classmethod
    def check_version(cls):
        return True

    @classmethod
    def get_isolated_subnets(cls, network):
        return {}

    @classmethod
    def has_metadata_subnet(cls, subnets):
        return False

    @classmethod
    def should_enable_metadata(cls, conf, network):
        return False

    @classmethod
    def get_metadata_bind_interface(cls, port):
        return None
