# SPDX-License-Identifier: Apache-2.0
"""Starts workers by forking a process that has loaded what they need.

Loading oslo.messaging takes half a second of processor time, and a run may want dozens
of workers. ``python -m hybrid_messaging.workers.fork_server MODULE`` loads the module
of a kind of worker once. Then it forks for each order that comes through its standard
input, a socket. An order brings the standard streams of the worker. The answer brings a
file descriptor of the new process, or says why there is none. When the orders end, so
does the server.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence

#: Bytes of an answer, at most.
_ANSWER = 256


class ForkServer:
    """The server, seen from the process that wants workers.

    It starts with the first worker. Workers do not need it once they run.

    :param module: has a function ``main``, which calls
        `hybrid_messaging.workers.loop.run`
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._orders, self._theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, streams: Sequence[int]) -> tuple[int, int]:
        """Start a worker.

        :param streams: file descriptors: its standard input, output and error
        :returns: its process id, and a file descriptor of it (pidfd_open(2))
        :raises OSError: if the system has none left, or the server has ended
        """
        with self._lock:
            if self._process is None:
                self._process = self._start()
            answer = b""
            with contextlib.suppress(ConnectionError):
                socket.send_fds(self._orders, [b"fork"], streams)
                answer, handles, _, _ = socket.recv_fds(
                    self._orders, _ANSWER, 1, socket.MSG_CMSG_CLOEXEC
                )
                if handles:
                    return int(answer), handles[0]
        self._log.seek(0)
        reason = answer or self._log.read().strip() or b"its fork server has ended"
        last = reason.decode(errors="replace").splitlines()[-1]
        raise OSError(f"no process can be started for {self._module}: {last}")

    def close(self) -> None:
        """End it."""
        self._orders.close()
        self._theirs.close()
        if self._process is not None:
            # even one that hangs: there is nothing that it has to finish
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._theirs:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", __name__, self._module],
                stdin=self._theirs.fileno(),
                stdout=self._log,
                stderr=self._log,
                # modules that lie around where we were started are none of ours
                cwd="/",
            )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fork_on_order(orders: socket.socket) -> bool:
    """Fork for each order.

    :returns: in each new process True, and False in this one when the orders end
    """
    # the terminal's Ctrl-C is for the process that gives orders, and for the workers
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # without a handler, processes that have ended need not be waited for
    children = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, streams, _, _ = socket.recv_fds(orders, _ANSWER, 3)
        if not order:
            return False
        try:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGINT, interrupt)
                signal.signal(signal.SIGCHLD, children)
                break
            handle = os.pidfd_open(pid)
        except OSError as error:
            answer, handles = str(error), []
        else:
            answer, handles = str(pid), [handle]
        for stream in streams:
            os.close(stream)
        socket.send_fds(orders, [answer.encode()], handles)
        for handle in handles:
            os.close(handle)
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
        os.close(stream)
    return True


if __name__ == "__main__":
    main = importlib.import_module(sys.argv[1]).main
    # what is loaded stays: to look through it in each worker would copy its memory
    gc.freeze()
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as orders:
        ordered = fork_on_order(orders)
    if ordered:
        main()
