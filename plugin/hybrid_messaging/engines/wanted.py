# SPDX-License-Identifier: Apache-2.0
"""What somebody wants to be up, and whether that goes with what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hybrid_messaging import state, urls
from hybrid_messaging.engines import EngineError, Options
from hybrid_messaging.modes import ANY_TRANSPORT, Mode, Placement


@dataclass(frozen=True)
class Wanted:
    """Engines of a mode.

    :param given: transport URLs by role (``rpc``, ``notify``) that are used instead of
        engines
    :param options: what they leave open stays as it is
    """

    mode: Mode
    given: Mapping[str, str]
    options: Options

    def beside(self, found: state.State | None) -> Wanted:
        """The same, with the URLs that were given to a deployment of the mode."""
        if found is None or found.mode != self.mode.name:
            return self
        options = self.options
        if options.nodes is None and found.nodes > 1:
            options = replace(options, nodes=found.nodes)
        return replace(self, given={**found.given, **self.given}, options=options)

    def check(self) -> None:
        """See that its URLs can carry what the mode is about.

        :raises EngineError: one of them cannot, or is missing
        """
        for role, transport in (("rpc", self.mode.rpc), ("notify", self.mode.notify)):
            if role in self.given:
                url = self.given[role]
                if transport not in (ANY_TRANSPORT, urls.parse(url).driver):
                    raise EngineError(
                        f"mode {self.mode.name} uses {transport}:// for {role}, not"
                        f" {urls.shown(url)}: mode external accepts any URLs"
                    )
            elif transport == ANY_TRANSPORT:
                raise EngineError(
                    f"mode {self.mode.name} starts nothing: give --rpc-url and "
                    "--notify-url"
                )
        if self._nodes > 1 and not any(map(_is_router, self.placements)):
            raise EngineError(
                f"--nodes is about routers, and mode {self.mode.name} starts none here"
            )

    @property
    def _nodes(self) -> int:
        return self.options.nodes or 1

    @property
    def placements(self) -> list[Placement]:
        """The engines to run, each for the roles that have no URL."""
        return [
            replace(item, name=name, roles=roles)
            for item in self.mode.engines
            for name in self._names(item)
            if (roles := tuple(role for role in item.roles if role not in self.given))
        ]

    def _names(self, item: Placement) -> list[str]:
        if self._nodes == 1 or not _is_router(item):
            return [item.name]
        return [f"{item.name}-{number}" for number in range(1, self._nodes + 1)]

    def conflict(self, found: state.State, running: bool) -> str:
        """What a deployment has that is not wanted, or ''.

        :param running: whether any of its engines runs
        """
        if running and self.options.tls not in (None, found.has_tls):
            return "TLS" if found.has_tls else "engines without TLS"
        if found.mode != self.mode.name:
            return f"mode {found.mode}"
        if any(self.given.get(role, url) != url for role, url in found.urls.items()):
            return "other URLs"
        if found.nodes and self._nodes != found.nodes:
            return f"{found.nodes} router{'s' if found.nodes > 1 else ''}"
        for item in found.engines:
            details = vars(item.details)
            for name, wanted in vars(self.options).items():
                if wanted is not None and details.get(name, wanted) != wanted:
                    return f"{name} {details[name]}"
        return ""


def _is_router(item: Placement) -> bool:
    return item.kind == "router"
