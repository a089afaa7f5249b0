# SPDX-License-Identifier: Apache-2.0
"""What options take: each function makes a value of a text, or says what is wrong."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from hybrid_messaging import urls

_LARGEST_PORT = 65535
# a name, or an address of either kind, also with the zone of a link-local one
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
_NO_WORD = re.compile(r"[\s\0-\x1f\x7f-\x9f]")


def directory(text: str) -> Path:
    """A directory, from wherever a process that is given it works."""
    return Path(text).absolute()


def port(text: str, least: int = 1) -> int:
    """A TCP port."""
    if not re.fullmatch("[0-9]{1,5}", text) or not least <= int(text) <= _LARGEST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port: give a number from {least} to {_LARGEST_PORT}"
        )
    return int(text)


def port_or_any(text: str) -> int:
    """A TCP port, or 0 for any that is free."""
    return port(text, least=0)


def host(text: str) -> str:
    """The name or the address of a host; an IPv6 address may have brackets."""
    bare = text[1:-1] if text[:1] + text[-1:] == "[]" else text
    if not _HOST.fullmatch(bare):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name or an address")
    return bare


def host_and_port(text: str) -> tuple[str, int]:
    """A host with a TCP port, as in a URL."""
    try:
        (address,) = urls.parse(f"amqp://{text}/").hosts
    except (urls.UrlError, ValueError):
        address = urls.Host(text)
    if not address.port:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form HOST:PORT")
    return host(address.host), address.port


def user(text: str) -> str | None:
    """The name of a user, as files of servers may have it; None if it is empty."""
    if _NO_WORD.search(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} contains spaces, which a user name cannot"
        )
    return text or None


def at_least(least: int) -> Callable[[str], int]:
    """Whole numbers from a certain one on."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return number


def within(least: int, most: int) -> Callable[[str], int]:
    """Whole numbers from one to another one."""

    def number(text: str) -> int:
        value = at_least(least)(text)
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is more than {most}")
        return value

    return number


def seconds(text: str) -> float:
    """A time in seconds, or none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is negative or not a number")
    return value


def positive(text: str) -> float:
    """A number above zero."""
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("it must be more than 0")
    return value


def percentage(text: str) -> float:
    """A number from 0 to 100."""
    value = seconds(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"{text} is more than 100 percent")
    return value
