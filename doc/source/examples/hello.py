# SPDX-License-Identifier: Apache-2.0
"""An RPC server and its client: hello.py serve|call URL."""

import sys

import oslo_messaging
from oslo_config import cfg


class Greetings:
    """What the server can do: each public method is one that clients can call."""

    def greet(self, context, name):
        return f"Hello, {name}!"


role, url = sys.argv[1:]
transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=url)
target = oslo_messaging.Target(topic="greetings", server="server-1")
if role == "serve":
    server = oslo_messaging.get_rpc_server(transport, target, [Greetings()])
    server.start()
    print("serving", flush=True)
    server.wait()
else:
    client = oslo_messaging.get_rpc_client(transport, target, timeout=20)
    print(client.call({}, "greet", name="world"))
transport.cleanup()
