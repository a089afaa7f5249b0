# SPDX-License-Identifier: Apache-2.0
"""Hosts of a test in network namespaces, with addresses of their own and one switch.

Each namespace is held by a process that ends with the test's, and goes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

T = TypeVar("T")

#: The station of a test that is no host: all hosts can be reached from there.
SWITCH = "the switch"

_PREFIX = 24
_CLONE_NEWNET = 0x40000000
#: Nobody has this link-layer address: what is sent there is lost, and nobody learns.
_NOBODY = "02:00:00:00:00:00"


def required() -> None:
    """Skip a test where no namespaces can be made."""
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"network namespaces need {program}")
    made = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made: {made.stderr.strip()}")


class Network:
    """Hosts and the switch between them.

    :param addresses: IPv4 addresses in one network of 24 bits, by host
    :param switch: the address of the switch in that network
    """

    def __init__(self, addresses: Mapping[str, str], switch: str) -> None:
        self._addresses = dict(addresses)
        self._ports = {host: f"port{n}" for n, host in enumerate(addresses)}
        self._holders: dict[str, subprocess.Popen[str]] = {}
        try:
            self._hold(SWITCH)
            self._ip(
                SWITCH,
                "link set lo up",
                "link add switch type bridge",
                f"addr add {switch}/{_PREFIX} dev switch",
                "link set switch up",
            )
            for host, address in addresses.items():
                pid, port = self._hold(host), self._ports[host]
                self._ip(
                    SWITCH,
                    f"link add {port} type veth peer name eth0 netns {pid}",
                    f"link set {port} master switch up",
                )
                self._ip(
                    host,
                    "link set lo up",
                    f"addr add {address}/{_PREFIX} dev eth0",
                    "link set eth0 up",
                )
        except BaseException:
            self.close()
            raise

    def enter(self, host: str) -> list[str]:
        """What a command begins with to run on a host."""
        return ["nsenter", f"--net={_namespace(self._holders[host].pid)}"]

    def within(self, host: str, call: Callable[[], T]) -> T:
        """Call something that uses the network as a process on a host would."""

        def entered() -> T:
            with _namespace(self._holders[host].pid).open() as ns:
                if ctypes.CDLL(None, use_errno=True).setns(ns.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return call()

        # a thread that ends then; those that it starts are there, too
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(entered).result()

    def vanish(self, host: str) -> None:
        """Take a host from the network: nobody is told."""
        self._ip(SWITCH, f"link set {self._ports[host]} down")

    def back(self, host: str) -> None:
        """Bring a host back that has vanished."""
        self._ip(SWITCH, f"link set {self._ports[host]} up")

    def cut(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Lose all that some hosts and others send to each other; nobody is told."""
        self._between(
            some, others, f"neigh replace {{}} lladdr {_NOBODY} nud permanent dev eth0"
        )

    def join(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Mend what `cut` has done."""
        self._between(some, others, "neigh del {} dev eth0")

    def close(self) -> None:
        """End all of it, with the processes that servers have left there."""
        for holder in self._holders.values():
            for pid in _inside(holder.pid):
                # it may have ended by itself
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            holder.kill()
            holder.communicate()

    def _hold(self, host: str) -> int:
        """Make a namespace, and return the process that holds it."""
        holder = subprocess.Popen(
            ["unshare", "--net", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._holders[host] = holder
        assert holder.stdin is not None
        assert holder.stdout is not None
        # an answer says that the namespace is there
        holder.stdin.write("\n")
        assert holder.stdout.readline() == "\n"
        return holder.pid

    def _between(
        self, some: Iterable[str], others: Iterable[str], command: str
    ) -> None:
        for one, other in itertools.product(some, others):
            self._ip(one, command.format(self._addresses[other]))
            self._ip(other, command.format(self._addresses[one]))

    def _ip(self, host: str, *commands: str) -> None:
        subprocess.run(
            [*self.enter(host), "ip", "-batch", "-"],
            input="\n".join(commands),
            text=True,
            check=True,
        )


def _namespace(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net")


def _inside(holder: int) -> list[int]:
    """The processes in the namespace that a process holds."""
    found = {}
    for pid in (holder, os.getpid(), *psutil.pids()):
        # it may have ended, and a holder that could not make its namespace has
        with contextlib.suppress(OSError):
            found[pid] = _namespace(pid).stat().st_ino
    if found.get(holder) in (None, found[os.getpid()]):
        return []
    return [pid for pid, inside in found.items() if inside == found[holder]]
