# SPDX-License-Identifier: Apache-2.0
"""``complete``: completion for bash, with all commands, options and known values.

cliff's own needs the package bash-completion, offers ``zmq-proxy_status``, and knows
no values.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from hybrid_messaging.cli.base import Command

_PROGRAM = "hybrid-messaging"


class Complete(Command):
    """Print completion for bash.

    To use it: source <(hybrid-messaging complete), in ~/.bashrc.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from hybrid_messaging.engines import templates

        offers = {f"{_PROGRAM} -": set(_names(self.app.parser))}
        for name in self.app.command_manager.commands:
            place = _PROGRAM
            for word in name.split():
                offers.setdefault(place, set()).add(word)
                place = f"{place} {word}"
            factory, _, _ = self.app.command_manager.find_command(name.split())
            for behind, words in _offers(factory(self.app, None).get_parser(name)):
                offers.setdefault(f"{place}{behind}", set()).update(words)
        self.app.stdout.write(
            templates.render(
                "completion.bash",
                program=_PROGRAM,
                offers={place: sorted(words) for place, words in offers.items()},
            )
        )


def _offers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Iterable[str]]]:
    """What may stand behind a command: '' for an argument, ' -' for an option.

    ' --OPTION' has the values of an option; none of them stand for any text or file.
    """
    yield " -", _names(parser)
    arguments = [action for action in parser._actions if not action.option_strings]
    yield "", [] if arguments else _names(parser)
    for action in parser._actions:
        values = list(map(str, _values(action)))
        for option in action.option_strings if action.nargs != 0 else ():
            yield f" {option}", values
        if action in arguments:
            yield "", values


def _values(action: argparse.Action) -> Iterable[Any]:
    find = vars(action).get("offers")
    return find() if find else action.choices or ()


def _names(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]
