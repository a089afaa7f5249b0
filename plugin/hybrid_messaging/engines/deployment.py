# SPDX-License-Identifier: Apache-2.0
"""The engines of one mode in one state directory: start, stop, restart, look.

All functions that change something hold the lock of the state directory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from hybrid_messaging import engines, state, urls
from hybrid_messaging.engines import (
    EngineError,
    Launch,
    Options,
    Progress,
    certificates,
    ports,
    processes,
)
from hybrid_messaging.modes import ANY_TRANSPORT, Mode, Placement

#: What an engine does, as `health` tells it.
UP, SILENT, DOWN = "up", "not answering", "down"

# beside the directories of the engines
_TLS = "tls"
# longer than any engine takes to start
_LOCK_TIMEOUT = 180.0
_READY_POLL = 0.1
# `down` throws the data away, so there is nothing to wait for once clients
# have been told
_DOWN_TIMEOUT = 3.0


@dataclass(frozen=True)
class Started:
    """What `up` has found or made."""

    state: state.State
    #: nothing was to be done
    already: bool = False


@dataclass(frozen=True)
class Report:
    """What one engine does at the moment; no traffic where it cannot be asked."""

    engine: state.Engine
    health: str
    traffic: engines.Traffic | None = None
    problem: str = ""


def up(
    state_dir: Path,
    mode: Mode,
    given: Mapping[str, str],
    options: Options,
    progress: Progress,
    repair: bool = False,
) -> Started:
    """Bring up the engines of a mode, or find them running.

    Engines that have run here before get their ports and data back.

    :param given: transport URLs by role (``rpc``, ``notify``); no engine is
        started for such a role
    :param options: what they leave open stays as it is
    :param repair: restart what is down beside engines that are up
    :raises StateError: if something else runs in this state directory
    :raises EngineError: if an engine does not start; then none of those that
        this call has started is left running
    """
    known = state.load(state_dir)
    if known is not None and known.mode == mode.name:
        given = {**_given(known), **given}
    _check(mode, given)
    placements = [
        replace(item, roles=roles)
        for item in mode.engines
        if (roles := tuple(role for role in item.roles if role not in given))
    ]
    for item in placements:
        engines.get(item.kind)
    state.prepare(state_dir)
    with _locked(state_dir, progress):
        previous = state.load(state_dir)
        if previous is not None:
            found = {item.name: health(state_dir, item) for item in previous.engines}
            running = any(now != DOWN for now in found.values())
            _check_same(previous, mode, given, options, running, state_dir)
            if all(now == UP for now in found.values()):
                _tell_age(state_dir, progress)
                return Started(previous, already=True)
            if not repair and running:
                raise state.StateError(_half_dead(state_dir, previous, found))
            placements = [item for item in placements if found.get(item.name) != UP]
        return Started(
            _start(state_dir, mode.name, placements, given, previous, options, progress)
        )


def down(state_dir: Path, progress: Progress, keep_data: bool = False) -> bool:
    """End all engines and remove everything that `up` has made.

    :param keep_data: remove nothing, so that `up` continues where it was
    :returns: False if nothing was there
    :raises StateError: if the state cannot be read, or is somebody else's
    """
    state.refuse_foreign(state_dir)
    if not state_dir.is_dir() or not _is_ours(state_dir):
        return False
    with _locked(state_dir, progress):
        found = state.load(state_dir)
        if found is not None and keep_data:
            _stop(state_dir, found.engines, progress)
            return True
        if found is not None:
            _stop(state_dir, found.engines, progress, timeout=_DOWN_TIMEOUT)
            _remove(state_dir, [item.name for item in found.engines])
        state.forget(state_dir)
    return found is not None


def restart(state_dir: Path, name: str, progress: Progress) -> state.State:
    """End one engine in order and start it again, with its ports and data.

    :param name: the engine's name in the state
    :raises EngineError: if there is no such engine, or it does not start again
    """
    with _locked(state_dir, progress):
        found = state.load(state_dir)
        engine = found.engine(name) if found else None
        if found is None or engine is None:
            raise EngineError(f"there is no engine {name} in {state_dir}")
        _stop(state_dir, [engine], progress)
        target = Placement(engine.name, engine.kind, engine.roles)
        return _start(
            state_dir, found.mode, [target], _given(found), found, Options(), progress
        )


def reports(state_dir: Path) -> list[Report] | None:
    """Look at every engine of a state directory; None if nothing is up there.

    :raises StateError: if the state cannot be read
    """
    found = state.load(state_dir)
    if found is None:
        return None
    return [_report(state_dir, item) for item in found.engines]


def health(state_dir: Path, engine: state.Engine) -> str:
    """Whether an engine's process runs and answers: UP, SILENT or DOWN."""
    if processes.find(engine.pid, state_dir / engine.name) is None:
        return DOWN
    return UP if engines.get(engine.kind).is_ready(engine) else SILENT


def _report(state_dir: Path, engine: state.Engine) -> Report:
    now = health(state_dir, engine)
    if now != UP:
        return Report(engine, now)
    try:
        return Report(engine, now, engines.get(engine.kind).traffic(engine))
    except EngineError as error:
        return Report(engine, SILENT, problem=str(error))


def _given(found: state.State) -> dict[str, str]:
    """The URLs that came from the user: those of roles without an engine."""
    served = {role for item in found.engines for role in item.roles}
    both = {"rpc": found.rpc_url, "notify": found.notify_url}
    return {role: url for role, url in both.items() if role not in served}


def _check(mode: Mode, given: Mapping[str, str]) -> None:
    for role, transport in (("rpc", mode.rpc), ("notify", mode.notify)):
        if role in given:
            scheme = urls.parse(given[role]).scheme.partition("+")[0]
            if transport not in (ANY_TRANSPORT, scheme):
                raise EngineError(
                    f"mode {mode.name} has {transport}:// for {role}, not "
                    f"{urls.shown(given[role])}: mode external takes any URLs"
                )
        elif transport == ANY_TRANSPORT:
            raise EngineError(
                f"mode {mode.name} starts nothing: give --rpc-url and --notify-url"
            )


def _check_same(
    previous: state.State,
    mode: Mode,
    given: Mapping[str, str],
    options: Options,
    running: bool,
    state_dir: Path,
) -> None:
    what = ""
    if running and options.tls not in (None, _has_tls(previous.engines)):
        what = "TLS" if _has_tls(previous.engines) else "engines without TLS"
    elif previous.mode != mode.name:
        what = f"mode {previous.mode}"
    elif any(
        given.get(role, url) != url
        for role, url in (("rpc", previous.rpc_url), ("notify", previous.notify_url))
    ):
        what = "other URLs"
    else:
        for item in previous.engines:
            for name, wanted in vars(options).items():
                found = item.details.get(name)
                if wanted is not None and name in item.details and wanted != found:
                    what = f"{name} {found}"
    if what:
        raise state.StateError(
            f"{state_dir} is in use with {what}: run `hybrid-messaging down` there "
            "first, or name another directory with --state-dir"
        )


def _half_dead(state_dir: Path, previous: state.State, found: Mapping[str, str]) -> str:
    parts = ", ".join(
        f"{item.name} (pid {item.pid}) is {found[item.name]}"
        for item in previous.engines
    )
    logs = " ".join(item.log for item in previous.engines if found[item.name] != UP)
    return (
        f"only a part of {previous.mode} runs in {state_dir}: {parts}; "
        "`hybrid-messaging up --repair` restarts the rest, `hybrid-messaging down` "
        f"ends all{f'; see {logs}' if logs else ''}"
    )


def _start(
    state_dir: Path,
    mode: str,
    targets: Sequence[Placement],
    given: Mapping[str, str],
    previous: state.State | None,
    options: Options,
    progress: Progress,
) -> state.State:
    """Start engines, beside those of `previous` that are not among them."""
    former = {item.name: item for item in previous.engines} if previous else {}
    planned: dict[str, state.Engine] = {}
    try:
        options = _with_certificates(state_dir, former.values(), options)
        _stop(
            state_dir, [former[t.name] for t in targets if t.name in former], progress
        )
        with ports.Ports() as free:
            launches = {
                item.name: _prepare(
                    state_dir, item, free, former.get(item.name), options
                )
                for item in targets
            }
        for item in targets:
            planned[item.name] = _record(
                state_dir, item, launches[item.name], options.ca_file
            )
        current = _state(mode, given, {**former, **planned})
        # saved before each next step, so that `down` finds whatever runs
        state.save(state_dir, current)
        started = {}
        for name, launch in launches.items():
            process = started[name] = _launch(state_dir, planned[name], launch)
            planned[name] = replace(
                planned[name], pid=process.pid, started=process.create_time()
            )
            current = _state(mode, given, {**former, **planned})
            state.save(state_dir, current)
        _wait(planned.values(), started, progress)
    except BaseException:
        _stop(state_dir, planned.values(), progress, timeout=_DOWN_TIMEOUT)
        if previous is None:
            _remove(state_dir, [item.name for item in targets])
            state.forget(state_dir)
        else:
            state.save(state_dir, previous)
        raise
    if previous is not None:
        _tell_changes(previous, current, progress)
    return current


def _prepare(
    state_dir: Path,
    item: Placement,
    free: ports.Ports,
    former: state.Engine | None,
    options: Options,
) -> Launch:
    directory = state_dir / item.name
    state.refuse_foreign_inside(directory)
    directory.mkdir(mode=0o700, exist_ok=True)
    return engines.get(item.kind).prepare(
        item.name, directory, free.take, former, options
    )


def _with_certificates(
    state_dir: Path, former: Iterable[state.Engine], options: Options
) -> Options:
    """Decide whether engines get TLS, and have certificates for it."""
    wanted = _has_tls(former) if options.tls is None else options.tls
    if not wanted:
        return options
    state.refuse_foreign_inside(state_dir / _TLS)
    made = certificates.ensure(state_dir / _TLS, [options.host])
    return replace(options, certificates=made)


def _has_tls(items: Iterable[state.Engine]) -> bool:
    return any(item.ca_file for item in items)


def _record(
    state_dir: Path,
    item: Placement,
    launch: Launch,
    ca_file: str | None,
) -> state.Engine:
    return state.Engine(
        name=item.name,
        kind=item.kind,
        roles=item.roles,
        host=engines.HOST,
        port=launch.port,
        url=launch.url,
        pid=state.NOT_STARTED,
        started=0.0,
        log=str(state_dir / item.name / f"{item.kind}.log"),
        details=launch.details,
        ca_file=ca_file,
    )


def _state(
    mode: str, given: Mapping[str, str], by_name: Mapping[str, state.Engine]
) -> state.State:
    roles = {role: item.url for item in by_name.values() for role in item.roles}
    roles |= given
    return state.State(mode, roles["rpc"], roles["notify"], tuple(by_name.values()))


def _launch(state_dir: Path, engine: state.Engine, launch: Launch) -> psutil.Popen:
    try:
        return processes.spawn(
            launch.command,
            launch.environment,
            state_dir / engine.name,
            Path(engine.log),
        )
    except OSError as error:
        raise EngineError(f"cannot start {launch.command[0]}: {error}") from error


def _wait(
    planned: Iterable[state.Engine],
    started: Mapping[str, psutil.Popen],
    progress: Progress,
) -> None:
    begin = time.monotonic()
    waiting = list(planned)
    for engine in waiting:
        progress(f"starting {engine.name} at {engine.host}:{engine.port} …")
    while waiting:
        for engine in list(waiting):
            module = engines.get(engine.kind)
            elapsed = time.monotonic() - begin
            if (code := started[engine.name].poll()) is not None:
                how = processes.how_it_ended(code)
                raise _failure(engine, f"ended while it started ({how})", ended=True)
            if module.is_ready(engine):
                module.set_up(engine)
                waiting.remove(engine)
                progress(f"{engine.name} is ready after {elapsed:.1f} s")
            elif elapsed > module.START_TIMEOUT:
                raise _failure(engine, f"was not ready after {elapsed:.0f} s")
        if waiting:
            time.sleep(_READY_POLL)


def _failure(engine: state.Engine, what: str, ended: bool = False) -> EngineError:
    log = urls.redact(processes.tail(Path(engine.log), ended=ended))
    return EngineError(f"{engine.name} {what}; the end of its log:\n{log}")


def _stop(
    state_dir: Path,
    stopping: Iterable[state.Engine],
    progress: Progress,
    timeout: float | None = None,
) -> None:
    """End engines, and what those that have ended left behind."""
    stopping = list(stopping)
    running = [
        (engine, process)
        for engine in stopping
        if (process := processes.find(engine.pid, state_dir / engine.name))
    ]
    for engine, _ in running:
        progress(f"stopping {engine.name} …")
    processes.stop(
        (process, timeout or engines.get(engine.kind).STOP_TIMEOUT)
        for engine, process in running
    )
    for engine in stopping:
        processes.stop_descendants(state_dir / engine.name)


def _remove(state_dir: Path, names: Iterable[str]) -> None:
    for name in (*names, _TLS):
        shutil.rmtree(state_dir / name, ignore_errors=True)


def _tell_age(state_dir: Path, progress: Progress) -> None:
    if certificates.ends_soon(state_dir / _TLS):
        progress(
            f"the engines' certificate ends on {certificates.ends(state_dir / _TLS)}: "
            "`hybrid-messaging down --keep-data`, then `up` renews it"
        )


def _tell_changes(
    previous: state.State, current: state.State, progress: Progress
) -> None:
    if (previous.rpc_url, previous.notify_url) != (current.rpc_url, current.notify_url):
        progress(
            "an address has changed: run `hybrid-messaging configure` again for your "
            "services"
        )


def _is_ours(state_dir: Path) -> bool:
    return any((state_dir / name).exists() for name in state.FILES)


@contextmanager
def _locked(state_dir: Path, progress: Progress) -> Iterator[None]:
    def waiting() -> None:
        progress(f"waiting for another command at work in {state_dir} …")

    with state.lock(state_dir, _LOCK_TIMEOUT, waiting):
        yield
