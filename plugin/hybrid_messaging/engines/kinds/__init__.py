# SPDX-License-Identifier: Apache-2.0
"""The kinds of engines: one module for each, with one class.

`KINDS` names them as the mode table does. Most commands need few of them, so that a
module is imported when its kind is asked for. What several kinds need lies beside this
package.
"""

from __future__ import annotations

import abc
import functools
import importlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypedDict, TypeVar

from hybrid_messaging import state
from hybrid_messaging.engines import (
    EngineError,
    Fetch,
    Launch,
    Missing,
    Options,
    TakePort,
    Traffic,
)

#: The class of each kind, in the module that is called as the kind.
KINDS = {
    "broker": "Broker",
    "kafka": "Kafka",
    "rabbitmq": "RabbitMQ",
    "redis": "Redis",
    "router": "Router",
}
#: The user of an engine that has users, where nobody names one.
USERNAME = "hybrid"


_D = TypeVar("_D", bound=state.Details)


@dataclass(frozen=True)
class Preparation:
    """An engine that is to be configured.

    :param name: the engine's name in its mode
    :param directory: the engine's own, and its working directory
    :param take_port: gives it free ports
    :param previous: the same engine's former run, for its ports and credentials
    :param options: what the user has chosen
    """

    name: str
    directory: Path
    take_port: TakePort
    previous: state.Engine | None
    options: Options

    def take_main_port(self) -> int:
        """The port that clients connect to: the user's, the former one, or any."""
        former = self.previous.port if self.previous else None
        return self.options.port or self.take_port(former)

    def before(self, kind: type[_D]) -> _D | None:
        """The details of the former run, if there was one."""
        return self.previous.details_as(kind) if self.previous else None


class Kind(abc.ABC):
    """What can be done with engines of a kind; it has no state."""

    #: how people call it
    title: ClassVar[str]
    #: seconds from launch until it is ready, at the most
    start_timeout: ClassVar[float]
    #: seconds that it may take to end by itself
    stop_timeout: ClassVar[float]
    #: what stands before the host in its URLs: `user:password@`, or nothing
    credentials: ClassVar[str] = "user:password@"
    #: where it can be fetched from, if it is no package; the first is the default
    sources: ClassVar[Mapping[str, Fetch]] = {}

    @abc.abstractmethod
    def missing(self, options: Options) -> list[Missing]:
        """What this machine lacks to run the engine."""

    @abc.abstractmethod
    def describe(self, options: Options) -> str:
        """Which program would be started."""

    def prepare(
        self,
        name: str,
        directory: Path,
        take_port: TakePort,
        previous: state.Engine | None,
        options: Options,
    ) -> Launch:
        """Write an engine's configuration; see `Preparation`.

        :raises EngineError: if it cannot be started on this machine
        """
        return self.configure(
            Preparation(name, directory, take_port, previous, options)
        )

    @abc.abstractmethod
    def configure(self, engine: Preparation) -> Launch:
        """Do what `prepare` is asked for."""

    @abc.abstractmethod
    def is_ready(self, engine: state.Engine) -> bool:
        """Whether it is this engine that answers, and takes connections."""

    def set_up(self, engine: state.Engine) -> None:  # noqa: B027
        """Make in an engine that is ready what services expect to be there.

        Most need nothing: what is used is made by its users.

        :raises EngineError: if it refuses
        """

    @abc.abstractmethod
    def traffic(self, engine: state.Engine) -> Traffic:
        """Ask a running engine for its counters.

        :raises EngineError: if it does not answer
        """


class RotatingKind(Kind):
    """A kind whose engines may have two users at a time, and change them as they run.

    So services can be given another user one by one. What has been done already may be
    done again.
    """

    def set_up(self, engine: state.Engine) -> None:
        """Let in again all who may come: an engine may have lost what it knew."""
        # one that somebody else runs has only one user
        if isinstance(engine.details, state.RotatingDetails):
            for login in engine.details.others:
                self.admit(engine, login)

    @abc.abstractmethod
    def admit(self, engine: state.Engine, login: state.Login) -> None:
        """Let in a further user, with the rights of the present one.

        :raises EngineError: it cannot be done
        """

    @abc.abstractmethod
    def dismiss(self, engine: state.Engine, login: state.Login) -> None:
        """Let in a user no more, and end what connections the engine can end.

        :raises EngineError: it cannot be done
        """

    @abc.abstractmethod
    def users(self, engine: state.Engine) -> list[str]:
        """The user of each connection of a client.

        :raises EngineError: it does not tell
        """


class Login(TypedDict):
    """Who may use an engine: fields of its details."""

    username: str
    password: str


class Logins(Login):
    """The same, of an engine that may have two users at a time."""

    next: state.Login | None
    former: state.Login | None


def login(
    options: Options, before: state.Details | None, username: str = USERNAME
) -> Login:
    """Decide who may use an engine: whom the user names, or as before, or one of ours.

    :param before: details of its former run
    :param username: of ours
    """
    former = before or state.Details()
    return {
        "username": options.username or former.username or username,
        "password": options.password or former.password or new_password(),
    }


def logins(
    options: Options, before: state.RotatingDetails | None, username: str = USERNAME
) -> Logins:
    """Decide the same, with others who may use it as before."""
    return {
        **login(options, before, username),
        "next": before.next if before else None,
        "former": before.former if before else None,
    }


def new_password() -> str:
    """Make a password that needs no quoting anywhere."""
    return secrets.token_urlsafe(24)


def is_available(kind: str) -> bool:
    """Whether this release can start engines of a kind."""
    return kind in KINDS


@functools.cache
def get(kind: str) -> Kind:
    """Return a kind of engine.

    :param kind: as the mode table calls it
    :raises EngineError: if this release cannot start engines of this kind
    """
    if not is_available(kind):
        raise EngineError(f"engine {kind} is not available in this release")
    found: Kind = getattr(importlib.import_module(f"{__name__}.{kind}"), KINDS[kind])()
    return found
