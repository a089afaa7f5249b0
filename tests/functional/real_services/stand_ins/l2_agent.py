# SPDX-License-Identifier: Apache-2.0
"""The Open vSwitch agent's part in Neutron's RPC, without Open vSwitch.

Made of the classes that the agent is made of. It reports itself alive, asks for the
details of each port that it hears of, and says that the port is up, as the agent does
when it has wired one. Runs in the services' environment.
"""

import queue
import sys
import threading

import oslo_messaging
from neutron.agent import rpc
from neutron.common import config
from neutron.conf import service
from neutron.conf.agent import common
from neutron_lib import context
from neutron_lib.agent import topics
from oslo_config import cfg
from oslo_log import log

LOG = log.getLogger("l2_agent")
TYPE = "Open vSwitch agent"


class Endpoint:
    """What neutron-server sends to all agents; ports are put aside for `wire`."""

    target = oslo_messaging.Target(version="1.4")

    def __init__(self) -> None:
        self.ports = queue.SimpleQueue()

    def port_update(self, context, port, **_):
        self.ports.put(port["id"])

    def _ignore(self, context, **_):
        """Nothing has been made of it that would have to change."""

    port_delete = network_update = network_delete = tunnel_update = _ignore
    binding_activate = binding_deactivate = _ignore


def report(state) -> None:
    """Say again and again that the agent is alive."""
    reports = rpc.PluginReportStateAPI(topics.REPORTS)
    admin = context.get_admin_context_without_session()
    pause = threading.Event()
    while True:
        try:
            reports.report_state(admin, state, use_call=True)
            state.pop("start_flag", None)
        except Exception:
            LOG.exception("no report")
        pause.wait(cfg.CONF.AGENT.report_interval)


def wire(ports, host) -> None:
    """Say of each port that it is up."""
    plugin = rpc.PluginApi(topics.PLUGIN)
    admin = context.get_admin_context_without_session()
    agent = f"ovs-agent-{host}"
    while True:
        port = ports.get()
        try:
            details = plugin.get_devices_details_list(admin, [port], agent, host)
            up = [found["device"] for found in details if found.get("port_id")]
            plugin.update_device_list(admin, up, [], agent, host)
        except Exception:
            LOG.exception("port %s is not wired", port)


def main() -> None:
    """Serve until SIGTERM."""
    common.register_agent_state_opts_helper(cfg.CONF)
    config.register_common_config_options()
    service.register_service_opts(service.RPC_EXTRA_OPTS, cfg.CONF)
    config.init(sys.argv[1:])
    config.setup_logging()
    host = cfg.CONF.host
    endpoint = Endpoint()
    followed = [
        [topics.PORT, topics.UPDATE],
        [topics.PORT, topics.DELETE],
        [topics.NETWORK, topics.UPDATE],
        [topics.NETWORK, topics.DELETE],
        ["tunnel", topics.UPDATE],
    ]
    rpc.create_consumers([endpoint], topics.AGENT, followed)
    state = {
        "binary": "neutron-openvswitch-agent",
        "agent_type": TYPE,
        "host": host,
        "topic": "N/A",
        "start_flag": True,
        "configurations": {
            "bridge_mappings": {},
            "datapath_type": "netdev",
            "tunnel_types": ["vxlan"],
            "tunneling_ip": "127.0.0.1",
            "vhostuser_socket_dir": "/tmp",
        },
    }
    threading.Thread(target=report, args=(state,), daemon=True).start()
    wire(endpoint.ports, host)


if __name__ == "__main__":
    main()
