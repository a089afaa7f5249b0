# SPDX-License-Identifier: Apache-2.0
"""The command ``hybrid-messaging``: one module for each of its commands.

`app` is the application, `base` what its commands are made of. `options` and `types`
have what several commands take on their command lines, `defaults` what holds where
nothing is given; `progress` and `visible` are how they print, `ending` is how signals
end them.
"""

from __future__ import annotations

import os
import signal

#: The exit code after Ctrl-C.
INTERRUPTED = 128 + signal.SIGINT


def interrupted(number: int, frame: object) -> None:
    """Handle Ctrl-C while there is nothing to clean up."""
    os._exit(INTERRUPTED)


def main() -> int:
    """Run the command line.

    Imports take most of a short command's time. Ctrl-C ends them at once and without
    a traceback, since a command that has not begun leaves nothing behind
    (`hybrid_messaging.cli.base.Command.run` begins).
    """
    # one that was started with SIGINT ignored, as in the background of a script, goes
    # on ignoring it
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    from hybrid_messaging.cli import app

    return app.main()
