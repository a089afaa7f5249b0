# SPDX-License-Identifier: Apache-2.0
"""Options: whether the release of oslo.messaging that a service has knows them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hybrid_messaging.servers import options as ours
from hybrid_messaging.service_configs import retired
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.interpreter import Environment, Known
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes

_SHARED = "DEFAULT"
_PREFIX = "oslo_messaging_"
#: What oslo.messaging registers where it is used, and does not list.
_UNLISTED = {
    ("oslo_messaging_notifications", "routing_config"),
}
_UNLISTED_SECTIONS = {"oslo_messaging_metrics", "oslo_messaging_tracing"}
#: What another release than the one that was looked at may see otherwise.
_BY_RELEASE = ("option-deprecated", "option-removed")
#: How alike names have to be for one to be a slip of the pen. In DEFAULT, most are of
#: the service, and some of these are alike (`rpc_response_max_timeout`).
_ALIKE, _ALIKE_IN_DEFAULT = 0.8, 0.93
#: What is shown of a file: a name that is none may be part of a password.
_NAME = re.compile(r"[A-Za-z][\w-]{0,63}")


def effective(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Options of messaging are known, by the names that they have now."""
    environment = routes.environment
    if not environment.options or config.service.places:
        return
    for document in (*config.beneath, *config.documents):
        for option in document.options:
            section = option.section
            for problem in _Setting(
                environment,
                section if section == _SHARED else section.lower(),
                option.key,
                f"{document.path}, line {option.start + 1}",
            ).judged():
                if environment.is_guess and problem.code in _BY_RELEASE:
                    yield dataclasses.replace(
                        problem,
                        severity=Severity.NOTE,
                        cure="name the service's Python with --python: this program's "
                        f"was looked at, with oslo.messaging {environment.release}",
                    )
                else:
                    yield problem


@dataclass(frozen=True)
class _Setting:
    """One option that a file sets."""

    environment: Environment
    section: str
    key: str
    where: str

    def judged(self) -> Iterator[Problem]:
        """What is wrong with it: one thing at the most."""
        options = self.environment.options.get(self.section)
        if options is None:
            return self._in_unknown_section()
        if self.key in options:
            return self._known(options[self.key])
        if (self.section, self.key) in retired.OPTIONS:
            return self._removed(retired.OPTIONS[self.section, self.key])
        if (self.section, self.key) in _UNLISTED:
            return iter(())
        return self._unknown(options)

    def __str__(self) -> str:
        key = self.key if _NAME.fullmatch(self.key) else "an option"
        return f"[{self.section}] {key}"

    def _in_unknown_section(self) -> Iterator[Problem]:
        section = self.section
        if section in retired.SECTIONS:
            yield found(
                "option-removed",
                f"[{section}] has no effect: oslo.messaging"
                f" {retired.SECTIONS[section]} removed this driver",
                "remove the section",
                self.where,
            )
            return
        # a driver that is not installed is reported where it is used
        if section in _UNLISTED_SECTIONS | _own().keys():
            return
        sections = [name for name in self.environment.options if name != _SHARED]
        meant = _alike(section, sections, _ALIKE_IN_DEFAULT)
        if meant or (section.startswith(_PREFIX) and _NAME.fullmatch(section)):
            yield found(
                "option-unknown",
                f"[{section}] has no effect",
                f"did you mean [{meant}]?" if meant else "remove the section",
                self.where,
            )

    def _known(self, known: Known) -> Iterator[Problem]:
        if known.name:
            yield found(
                "option-deprecated",
                f"{self} is a former name, which a later release will not accept",
                f"write [{known.section}] {known.name}",
                self.where,
            )
        elif known.deprecated:
            reason = f": {known.reason.rstrip('.')}" if known.reason else ""
            yield found(
                "option-deprecated",
                f"{self} is deprecated in oslo.messaging{reason}",
                "remove it",
                self.where,
            )

    def _removed(self, release: str) -> Iterator[Problem]:
        now = retired.INSTEAD.get(self.key)
        instead = f"remove it; use {now} instead" if now else "remove it"
        yield found(
            "option-removed",
            f"{self} has no effect: oslo.messaging {release} removed it, and the "
            f"checked release is {self.environment.release}",
            self._elsewhere() or instead,
            self.where,
        )

    def _unknown(self, options: Mapping[str, Known]) -> Iterator[Problem]:
        release = self.environment.release
        present = [name for name, known in options.items() if not known.name]
        shared = self.section == _SHARED
        meant = _alike(self.key, present, _ALIKE_IN_DEFAULT if shared else _ALIKE)
        if shared and not meant and not _is_ours(self.key):
            return  # it is the service's own
        if self.key in _own().get(self.section, ()):
            yield found(
                "option-unknown",
                f"{self} has no effect: a later oslo.messaging has it, but the"
                f" checked release is {release}",
                "remove it, or update oslo.messaging",
                self.where,
            )
            return
        yield found(
            "option-unknown",
            f"{self} has no effect: oslo.messaging {release} has no such option",
            (f"did you mean {meant}?" if meant else self._elsewhere()) or "remove it",
            self.where,
        )

    def _elsewhere(self) -> str:
        """How it is written in another section; '' if none knows it."""
        places = [
            f"[{section}] {options[self.key].name or self.key}"
            for section, options in self.environment.options.items()
            if section != self.section and self.key in options
        ]
        return f"write it as {' or '.join(places)}" if places else ""


def _is_ours(key: str) -> bool:
    """Whether a name in DEFAULT can only be meant for a driver."""
    return key.startswith(("rabbit_", "kombu_", "rpc_zmq_")) and any(
        key in options for options in _own().values()
    )


def _alike(name: str, names: Iterable[str], cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(name, list(names), 1, cutoff)), "")


@functools.cache
def _own() -> dict[str, frozenset[str]]:
    """The options of our own environment."""
    return {
        group or _SHARED: frozenset(option.dest for option in options)
        for group, options in ours.groups()
    }
