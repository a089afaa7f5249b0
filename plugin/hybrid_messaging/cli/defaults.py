# SPDX-License-Identifier: Apache-2.0
"""What holds for options that are not given, found out when the command runs.

A parser is made for ``--help`` and for completion as well, and a variable of the
environment with a typo must spoil neither.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any


class Default:
    """Stands for the value of an option until the command runs.

    :param shown: what ``--help`` says it is
    :param find: returns the value
    """

    def __init__(self, shown: str, find: Callable[[], Any]) -> None:
        self._shown = shown
        self.find = find

    def __str__(self) -> str:
        return self._shown


def variable(name: str, convert: Callable[[str], Any] = str) -> Default:
    """The value of a variable of the environment; None if it is unset or empty.

    :param convert: makes the value of the option; ValueError says what is wrong
    """

    def find() -> Any:
        text = os.environ.get(name)
        if not text:
            return None
        try:
            return convert(text)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise ValueError(f"{name} in the environment: {error}") from error

    return Default(f"${name}", find)


def truth(text: str) -> bool:
    """What a variable says that is true or false.

    :raises ValueError: it says neither
    """
    from oslo_utils import strutils

    try:
        return strutils.bool_from_string(text, strict=True)
    except ValueError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def settle(parsed_args: argparse.Namespace) -> None:
    """Put values in the places of all defaults.

    :raises ValueError: a variable of the environment has none
    """
    for name, value in vars(parsed_args).items():
        if isinstance(value, Default):
            setattr(parsed_args, name, value.find())


def drop(parsed_args: argparse.Namespace, *names: str) -> None:
    """Leave options that are not given without a value."""
    for name in names:
        if isinstance(getattr(parsed_args, name), Default):
            setattr(parsed_args, name, None)
