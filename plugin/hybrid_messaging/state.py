# SPDX-License-Identifier: Apache-2.0
"""What `up` has started: the state directory, its lock and its JSON file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hybrid_messaging import json_files, locks, modes, path_walk, urls, whole_file
from hybrid_messaging.json_files import (
    Damage,
    Shape,
    items,
    mapping,
    maybe,
    number,
    one_of,
    record,
    text,
    whole,
)
from hybrid_messaging.path_walk import Step

STATE_FILE = "state.json"
LOCK_FILE = "lock"
#: What makes a directory a state directory.
FILES = (STATE_FILE, LOCK_FILE)

#: Stands for the pid of an engine that has been configured, not started.
NOT_STARTED = 0

_FORMAT = 1
# a hundred times what the largest deployment writes
_LARGEST = 1 << 20


class StateError(RuntimeError):
    """A state directory that cannot be used as it is."""


@dataclass(frozen=True, kw_only=True)
class Details:
    """What an engine's kind needs to find it again, and to start it as it was.

    Fields are texts and ports. A user and a password are what its clients need; all
    but routers have them.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user of an engine."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RotatingDetails(Details):
    """Of an engine that may have two users at a time.

    :param next: a user whom the engine may know already, and services do not
    :param former: the user of services that have not been configured anew
    """

    next: Login | None = None
    former: Login | None = None

    @property
    def login(self) -> Login | None:
        """The user of its URL; None: it lets in everybody."""
        if self.username is None:
            return None
        return Login(username=self.username, password=self.password or "")

    @property
    def others(self) -> tuple[Login, ...]:
        """The users besides that of its URL."""
        return tuple(each for each in (self.next, self.former) if each is not None)

    @property
    def all(self) -> tuple[Login, ...]:
        """All users."""
        return (*([self.login] if self.login else []), *self.others)


@dataclass(frozen=True, kw_only=True)
class KafkaDetails(Details):
    """Of a Kafka.

    :param kafka: directory of the release that the user has chosen
    :param version: of what is started
    :param cluster: its identifier, unlike any other
    """

    kafka: str | None
    version: str
    controller_port: int
    cluster: str


@dataclass(frozen=True, kw_only=True)
class RabbitMQDetails(RotatingDetails):
    """Of a node of RabbitMQ; `cookie` is what Erlang nodes trust each other by."""

    management_port: int
    distribution_port: int
    epmd_port: int
    cookie: str = field(repr=False)
    node: str


@dataclass(frozen=True, kw_only=True)
class RedisDetails(RotatingDetails):
    """Of a Redis.

    :param admin_password: of the user who may change users
    """

    admin_password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RouterDetails(RotatingDetails):
    """Of a router.

    :param router: which program it is, as ``--router`` takes it
    :param id: unlike that of any other router
    :param link_port: where other routers link to it; None: nowhere
    """

    router: str
    id: str
    link_port: int | None = None


_D = TypeVar("_D", bound=Details)


@dataclass(frozen=True)
class Engine:
    """One engine that `up` has started.

    `started` is the process's creation time in seconds since the epoch: pids are
    reused, (pid, started) are not. `details` are those of its kind (`DETAILS`).
    """

    name: str
    kind: str
    roles: tuple[str, ...]
    host: str
    port: int
    url: str
    pid: int
    started: float
    log: str
    details: Details = field(default_factory=Details)
    #: the certificate to trust where it speaks TLS; None: it does not
    ca_file: str | None = None

    def details_as(self, kind: type[_D]) -> _D:
        """Its details, which are of this class, since it is of that kind."""
        assert isinstance(self.details, kind), self.kind
        return self.details


@dataclass(frozen=True)
class State:
    """What runs in a state directory; its URLs contain passwords."""

    mode: str
    rpc_url: str
    notify_url: str
    engines: tuple[Engine, ...] = ()

    def engine(self, name: str) -> Engine | None:
        """The engine with this name, if it has ever been started here."""
        return next((item for item in self.engines if item.name == name), None)

    @classmethod
    def of(
        cls, mode: str, engines: Iterable[Engine], given: Mapping[str, str]
    ) -> State:
        """What runs, by its engines.

        :param given: URLs of roles without an engine
        """
        found = tuple(engines)
        urls = {**given}
        for role in {role for item in found for role in item.roles}:
            urls[role] = _joined([item.url for item in found if role in item.roles])
        return cls(mode, urls["rpc"], urls["notify"], found)

    def replace(self, engine: Engine) -> State:
        """The same with another record of an engine."""
        engines = (
            engine if item.name == engine.name else item for item in self.engines
        )
        return self.of(self.mode, engines, self.given)

    @property
    def urls(self) -> dict[str, str]:
        """The URLs of both roles."""
        return {"rpc": self.rpc_url, "notify": self.notify_url}

    @property
    def given(self) -> dict[str, str]:
        """The URLs that came from the user: those of roles without an engine."""
        served = {role for item in self.engines for role in item.roles}
        return {role: url for role, url in self.urls.items() if role not in served}

    @property
    def nodes(self) -> int:
        """How many routers it has."""
        return sum(item.kind == "router" for item in self.engines)

    @property
    def has_tls(self) -> bool:
        """Whether its engines speak TLS."""
        return any(item.ca_file for item in self.engines)


def _joined(found: list[str]) -> str:
    """The URL of several engines that carry the same."""
    if len(found) == 1:
        return found[0]
    parsed = [urls.parse(url) for url in found]
    hosts = tuple(host for url in parsed for host in url.hosts)
    return str(dataclasses.replace(parsed[0], hosts=hosts))


def default_state_dir() -> Path:
    """Where `up` keeps its state unless told otherwise.

    The XDG base directory specification: ``$XDG_STATE_HOME``, by default
    ``~/.local/state``; a relative value is ignored.

    :raises StateError: there is neither
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".local" / "state"
        except RuntimeError:
            raise StateError(
                "this user has no home directory: set HOME or XDG_STATE_HOME, or name"
                " a directory with --state-dir"
            ) from None
    return base / "hybrid-messaging"


def load(state_dir: Path) -> State | None:
    """Read what runs in a state directory.

    Names in the file lead to directories that are removed and to processes that are
    ended: it is believed only if it is ours, and nothing in it leads elsewhere.

    :returns: None if nothing has been started there
    :raises StateError: if the file cannot be read or is no state of ours
    """
    path = state_dir / STATE_FILE
    refuse_foreign(state_dir)
    try:
        data = json_files.read(path, _LARGEST, private=True)
        if isinstance(data, dict) and data.get("format") != _FORMAT:
            json_files.inside("format", whole(), data.get("format"))
            raise StateError(
                f"{path} was written by another release of hybrid-messaging (format"
                f" {data['format']}, and this one reads {_FORMAT}): run `down` of the"
                " release that wrote it"
            )
        _shape()(data)
        found = State(
            data["mode"],
            data["rpc_url"],
            data["notify_url"],
            tuple(
                Engine(
                    **{
                        **item,
                        "roles": tuple(item["roles"]),
                        "details": _details(item["kind"], item["details"]),
                    }
                )
                for item in data["engines"]
            ),
        )
        names = [engine.name for engine in found.engines]
        if len(set(names)) < len(names):
            raise Damage("have a name twice", "engines")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    except Damage as damage:
        raise StateError(
            f"{path} is damaged ({damage}): end the engines that may still run (their "
            f"pids are in {state_dir}/*/pid), then remove {state_dir}"
        ) from damage
    for name in names:
        refuse_foreign_inside(state_dir / name)
    return found


def refuse_foreign(state_dir: Path) -> None:
    """Make sure that nobody but us and root decides what a path leads to.

    That holds for each directory and each link on the way, so that nobody can put
    something else there while we are at work. What is not there is nobody's.

    :raises StateError: somebody else does
    """
    # in a container, "/" may belong to a user whom it does not know
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}

    def judge(step: Step) -> None:
        path, mode = step.path, step.status.st_mode
        if step.status.st_uid not in trusted:
            link = stat.S_ISLNK(mode)
            raise _foreign(path, "is a symbolic link of" if link else "belongs to")
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise StateError(
                f"every user can write to {path} (mode {mode & 4095:o}) and exchange"
                " its contents: run `chmod o-w` on it, or name another directory with"
                " --state-dir"
            )

    try:
        directory, name = path_walk.follow(state_dir, judge)
        with directory:
            if directory.status(name).st_uid != os.geteuid():
                raise _foreign(directory.path / name, "belongs to")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StateError(f"cannot read {state_dir}: {error.strerror}") from error


def _foreign(path: Path, how: str) -> StateError:
    return StateError(
        f"{path} {how} another user, who could exchange its contents: run this as that"
        " user, or name a directory with --state-dir that belongs to you and is below"
        " directories of yours or root's"
    )


def refuse_foreign_inside(directory: Path) -> None:
    """Make sure that a directory in a state directory is one, and is ours.

    :raises StateError: it belongs to another user, or is a symbolic link
    """
    try:
        status = directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StateError(f"cannot read {directory}: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise StateError(
            f"{directory} is a symbolic link, which `up` does not create: check where"
            " it leads, and remove it"
        )
    if status.st_uid != os.geteuid():
        raise StateError(
            f"{directory} belongs to another user, and `up` has not created it: check"
            " what it contains, and remove it"
        )


def _url(value: Any) -> None:
    """A transport URL."""
    text()(value)
    try:
        urls.parse(value)
    except urls.UrlError:
        raise Damage("is not a transport URL") from None


_PORT = whole(1, 65535)
#: The class of `Engine.details`, by kind.
DETAILS: dict[str, type[Details]] = {
    "broker": Details,
    "kafka": KafkaDetails,
    "rabbitmq": RabbitMQDetails,
    "redis": RedisDetails,
    "router": RouterDetails,
}
#: Those that may let in everybody.
_OPEN = {"router"}
_LOGIN = record({"username": text(), "password": text()})
_FIELDS = {
    "int": _PORT,
    "int | None": maybe(_PORT),
    "str": text(),
    "str | None": maybe(text()),
    "Login | None": maybe(_LOGIN),
}
#: Engines have directories of these names in the state directory.
_NAME = text(re.compile(r"[a-z][a-z0-9-]{0,62}\Z"), "engine name")
_ENGINE = {
    "name": _NAME,
    "kind": one_of(DETAILS, "engine kind"),
    "roles": items(one_of(("rpc", "notify"), "role")),
    "host": text(),
    "port": _PORT,
    "url": _url,
    # as large as Linux gives them (PID_MAX_LIMIT)
    "pid": whole(NOT_STARTED, 1 << 22),
    "started": number(0, 1e11),
    "log": text(),
    "details": mapping(lambda value: None),  # `_engine` looks at it
    "ca_file": maybe(text()),
}


def _engine(value: Any) -> None:
    record(_ENGINE)(value)
    json_files.inside("details", _shape_of(value["kind"]), value["details"])


def _details(kind: str, values: dict[str, Any]) -> Details:
    """The details that have been read, which have their shape."""
    found: dict[str, Any] = {
        name: Login(**value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return DETAILS[kind](**found)


def _shape_of(kind: str) -> Shape:
    shapes = {
        item.name: _FIELDS[str(item.type)] for item in dataclasses.fields(DETAILS[kind])
    }
    if kind not in _OPEN:
        shapes |= dict.fromkeys(("username", "password"), text())
    return record(shapes)


def _shape() -> Shape:
    return record(
        {
            "format": whole(),
            "mode": one_of(modes.load(), "mode"),
            "rpc_url": _url,
            "notify_url": _url,
            "engines": items(_engine),
        }
    )


def save(state_dir: Path, state: State) -> None:
    """Write the state, whole or not at all, readable by its owner only.

    :raises StateError: if it cannot be written, or could not be read again; what
        was there before stays
    """
    data = json.loads(json.dumps({"format": _FORMAT, **dataclasses.asdict(state)}))
    path = state_dir / STATE_FILE
    try:
        _shape()(data)
        whole_file.write(path, json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
    except Damage as damage:
        raise StateError(f"cannot write {path}: {damage}") from damage


def forget(state_dir: Path) -> None:
    """Remove the state, the lock, and the directory if nothing else is in it.

    For the holder of the lock; whoever waits for it notices.
    """
    unfinished = state_dir.glob(f".{STATE_FILE}{whole_file.UNFINISHED}*")
    for left in (*unfinished, *map(state_dir.joinpath, FILES)):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state_dir.rmdir()


def prepare(state_dir: Path) -> None:
    """Create the state directory, for its owner only, or accept an old one.

    :raises StateError: if it belongs to somebody else or holds other things
    """
    try:
        _make(state_dir)
        names = {item.name for item in state_dir.iterdir()}
        if names and names.isdisjoint(FILES):
            raise StateError(
                f"{state_dir} contains other files: name an empty or new directory"
                " with --state-dir"
            )
        state_dir.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot use {state_dir} as state directory: {error.strerror}"
        ) from error


def _make(state_dir: Path) -> None:
    # before, since a link could have it made elsewhere
    refuse_foreign(state_dir)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_foreign(state_dir)


@contextlib.contextmanager
def lock(
    state_dir: Path, timeout: float, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the state directory against every other command that changes it.

    :param timeout: seconds to wait for another holder
    :param waiting: called once if there is another holder
    :raises StateError: if it still holds the lock after `timeout`
    """
    path = state_dir / LOCK_FILE

    def open_it() -> int:
        # a former holder may just have removed it
        _make(state_dir)
        return os.open(
            path,
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
            0o600,
        )

    def is_current(handle: int) -> bool:
        """Whether the former holder was not `down`, which removes the lock file."""
        try:
            return os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            return False

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.exclusive(open_it, timeout, waiting, is_current))
        except BlockingIOError:
            raise StateError(
                f"another hybrid-messaging command is using {state_dir}: wait until it"
                " ends, and try again"
            ) from None
        except OSError as error:
            raise StateError(f"cannot lock {path}: {error.strerror}") from error
        yield
