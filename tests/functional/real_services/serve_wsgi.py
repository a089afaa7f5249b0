# SPDX-License-Identifier: Apache-2.0
"""Serve an OpenStack API's WSGI application with native threads.

Runs inside the services' environment: ``serve_wsgi.py MODULE PORT [ARGUMENT…]``,
where MODULE has an ``application`` that reads its arguments from ``sys.argv``.
"""

import importlib
import signal
import sys

from cheroot import wsgi


def main() -> None:
    """Serve until SIGTERM."""
    module, port = sys.argv[1:3]
    sys.argv = [module, *sys.argv[3:]]
    application = importlib.import_module(module).application
    server = wsgi.Server(("127.0.0.1", int(port)), application, numthreads=4)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.start()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
