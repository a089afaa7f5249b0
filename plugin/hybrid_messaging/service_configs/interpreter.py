# SPDX-License-Identifier: Apache-2.0
"""What a service's own Python has: oslo.messaging's release, drivers and options."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

# a busy machine takes more than a minute to import all drivers
_TIMEOUT = 300.0
# bytes that are read of what it prints: some times what is usual
_LARGEST = 1_000_000
_CHUNK = 65536
_MARK = "hybrid-messaging-environment:"

# Runs in the service's environment, which need not have this package.
_SCRIPT = f"""
import importlib.metadata as metadata, json
names = {{}}
for group in ("oslo.messaging.drivers", "oslo.messaging.notify.drivers"):
    names[group] = {{}}
    for entry in metadata.entry_points(group=group):
        try:
            entry.load()
            names[group].setdefault(entry.name, "")
        except Exception as error:
            names[group][entry.name] = f"{{type(error).__name__}}: {{error}}"
options = {{}}
for entry in metadata.entry_points(group="oslo.config.opts"):
    if entry.name not in ("oslo.messaging", "hybrid_messaging"):
        continue
    try:
        found = entry.load()()
    except Exception:
        continue
    for group, known in found:
        section = str(getattr(group, "name", group) or "DEFAULT")
        for option in known:
            reason = option.deprecated_reason or ""
            options.setdefault(section, {{}})[option.dest] = (
                "", "", bool(option.deprecated_for_removal), str(reason)
            )
    for group, known in found:
        section = str(getattr(group, "name", group) or "DEFAULT")
        for option in known:
            for old in option.deprecated_opts:
                options.setdefault(old.group or section, {{}}).setdefault(
                    old.name or option.dest, (section, option.dest, False, "")
                )
try:
    release = metadata.version("oslo.messaging")
except metadata.PackageNotFoundError:
    release = ""
print({_MARK!r} + json.dumps([names, release, options]))
"""


class InterpreterError(ValueError):
    """The interpreter that was named cannot be asked."""


class Known(NamedTuple):
    """An option that an environment knows.

    :param section: of the option that has this one's part now, '' for a present one
    :param name: its name
    :param deprecated: it is to be removed
    :param reason: why
    """

    section: str = ""
    name: str = ""
    deprecated: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Environment:
    """What a service can import.

    :param transport: drivers by name; the value says why one cannot be imported, '' if
        it can
    :param notification: the same of drivers for notifications
    :param release: that of oslo.messaging, '' if there is none
    :param options: by section and name, those of oslo.messaging and of our drivers;
        empty if the environment cannot tell
    :param is_guess: nobody knows that it is the service's
    """

    transport: Mapping[str, str]
    notification: Mapping[str, str]
    release: str = ""
    options: Mapping[str, Mapping[str, Known]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    is_guess: bool = False


def ask(python: Path, user: os.stat_result | None = None) -> Environment:
    """Ask an interpreter what a service that runs in it can import.

    :param python: the interpreter, such as /opt/stack/data/venv/bin/python
    :param user: run it as the owner of this instead of as ourselves
    :raises InterpreterError: it does not run, or does not answer in time
    """
    other: dict[str, Any] = {}
    if user is not None:
        other = {
            "user": user.st_uid,
            "group": user.st_gid,
            "extra_groups": [],
            # nothing of ours, such as passwords, is for that user
            "env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        }
    try:
        process = subprocess.Popen(
            [python, "-W", "ignore", "-c", _SCRIPT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            # without our terminal, into which it could type
            start_new_session=True,
            **other,
        )
    except OSError as error:
        raise InterpreterError(f"cannot run {python}: {error}") from error
    with process:
        try:
            printed = _read(process, python)
        finally:
            # it may have started others, which keep the pipe open
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    before, mark, answer = printed.rpartition(_MARK)
    if not mark:
        reason = (before or answer).strip() or "it printed nothing"
        raise InterpreterError(
            f"{python} is not a usable Python 3.10 or later: {reason.splitlines()[-1]}"
        )
    try:
        return _parsed(answer.partition("\n")[0])
    except (
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise InterpreterError(
            f"{python} printed something unexpected instead of what it can import: is"
            " it the Python of a service?"
        ) from error


def _read(process: subprocess.Popen[bytes], python: Path) -> str:
    """What a process prints until it ends.

    :raises InterpreterError: it prints too much, or does not end in time
    """
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    printed = bytearray()
    end = time.monotonic() + _TIMEOUT
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(printed) <= _LARGEST:
            if not selector.select(max(0.0, end - time.monotonic())):
                raise InterpreterError(
                    f"{python} did not answer within {_TIMEOUT:g} s which drivers it"
                    " can import"
                )
            chunk = os.read(pipe, _CHUNK)
            if not chunk:
                return printed.decode("utf-8", "replace")
            printed += chunk
    raise InterpreterError(
        f"{python} printed more than {_LARGEST} bytes: is it the Python of a service?"
    )


def _parsed(answer: str) -> Environment:
    """What `_SCRIPT` prints.

    :raises AttributeError, LookupError, RecursionError, TypeError, ValueError: it is
        something else
    """
    names, release, options = json.loads(answer)
    transport, notification = (
        {name: str(reason) for name, reason in names[group].items()}
        for group in ("oslo.messaging.drivers", "oslo.messaging.notify.drivers")
    )
    return Environment(
        transport,
        notification,
        str(release),
        {
            section: {name: Known(*known) for name, known in options_.items()}
            for section, options_ in options.items()
        },
    )
