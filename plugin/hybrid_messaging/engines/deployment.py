# SPDX-License-Identifier: Apache-2.0
"""The engines of one mode in one state directory: start, stop, restart, look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hybrid_messaging import engines, modes, state, state_directory
from hybrid_messaging.engines import (
    EngineError,
    Launch,
    Options,
    Progress,
    certificates,
    credentials,
    kinds,
    ports,
)
from hybrid_messaging.engines.supervisor import DOWN, SILENT, UP, Supervisor
from hybrid_messaging.engines.wanted import Wanted
from hybrid_messaging.modes import Mode, Placement

# beside the directories of the engines
_TLS = "tls"
# longer than any engine takes to start
_LOCK_TIMEOUT = 180.0
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


class Deployment:
    """What is up in one state directory, or can be.

    What changes something holds the lock of the directory meanwhile.

    :param directory: the state directory
    :param progress: takes a line for each thing that takes a while
    """

    def __init__(self, directory: Path, progress: Progress = lambda line: None) -> None:
        self._directory = directory
        self._progress = progress
        self._supervisor = Supervisor(directory, progress)

    def up(
        self,
        mode: Mode,
        given: Mapping[str, str],
        options: Options,
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
        wanted = Wanted(mode, given, options).beside(
            state_directory.load(self._directory)
        )
        wanted.check()
        targets = wanted.placements
        for item in targets:
            kinds.get(item.kind)
        state_directory.prepare(self._directory)
        with self._locked():
            previous = state_directory.load(self._directory)
            if previous is not None:
                found = {item.name: self.health(item) for item in previous.engines}
                running = any(now != DOWN for now in found.values())
                if conflict := wanted.conflict(previous, running):
                    raise state_directory.StateError(
                        f"{self._directory} is in use with {conflict}: run "
                        "`hybrid-messaging down` there first, or name another "
                        "directory with --state-dir"
                    )
                if all(now == UP for now in found.values()):
                    self._tell_age()
                    return Started(previous, already=True)
                if not repair and running:
                    raise state_directory.StateError(self._half_dead(previous, found))
                targets = [item for item in targets if found.get(item.name) != UP]
            return Started(self._start(wanted, targets, previous))

    def down(self, keep_data: bool = False) -> bool:
        """End all engines and remove everything that `up` has made.

        :param keep_data: remove nothing, so that `up` continues where it was
        :returns: False if nothing was there
        :raises StateError: if the state cannot be read, or is somebody else's
        """
        state_directory.refuse_foreign(self._directory)
        if not any((self._directory / name).exists() for name in state_directory.FILES):
            return False
        with self._locked():
            found = state_directory.load(self._directory)
            if found is not None and keep_data:
                self._supervisor.stop(found.engines)
                return True
            if found is not None:
                self._supervisor.stop(found.engines, timeout=_DOWN_TIMEOUT)
                self._supervisor.remove([item.name for item in found.engines] + [_TLS])
            state_directory.forget(self._directory)
        return found is not None

    def restart(self, name: str) -> state.State:
        """End one engine in order and start it again, with its ports and data.

        :param name: the engine's name in the state
        :raises EngineError: if there is no such engine, or it does not start again
        """
        with self._locked():
            found = state_directory.load(self._directory)
            engine = self._engine(found, name)
            assert found is not None
            self._supervisor.stop([engine])
            target = Placement(engine.name, engine.kind, engine.roles)
            return self._start(
                Wanted(modes.get(found.mode), found.given, Options()), [target], found
            )

    def users(self, names: Sequence[str] = ()) -> list[credentials.User]:
        """The users of engines that can have two of them.

        :param names: of engines in the state; none: all that can
        :raises EngineError: there is no such engine
        """
        return [
            user
            for engine in self._rotating(state_directory.load(self._directory), names)
            for user in credentials.users(engine)
        ]

    def rotate(self, names: Sequence[str], dry_run: bool = False) -> None:
        """Give engines a new user; the former one stays valid until `retire`.

        :param names: as for `users`
        :param dry_run: only say what would be done
        :raises EngineError: an engine is not up, or refuses
        """
        with self._locked():
            found = state_directory.load(self._directory)
            engines = self._rotating(found, names)
            self._require_up(engines)
            for item in found.engines if found and not names else ():
                if why := credentials.objection(item):
                    self._progress(f"{item.name}: left alone: {why}")
            for engine in engines:
                former = engine.details_as(state.RotatingDetails).former
                if former is not None:
                    self._progress(
                        f"{engine.name}: left alone, as {former.username} has not been "
                        "retired yet"
                    )
                elif dry_run:
                    self._progress(
                        f"{engine.name}: would get a user besides "
                        f"{engine.details.username}"
                    )
                else:
                    credentials.rotate(engine, self._save)
                    self._progress(
                        f"{engine.name}: has a new user; {engine.details.username} "
                        "remains valid"
                    )

    def retire(
        self, names: Sequence[str], force: bool = False, dry_run: bool = False
    ) -> None:
        """Remove the former users of engines.

        :param names: as for `users`
        :param force: although clients use them
        :param dry_run: only say what would be done
        :raises EngineError: an engine is not up, or refuses; or clients use a former
            user, and nothing has been done
        """
        with self._locked():
            engines = self._rotating(state_directory.load(self._directory), names)
            self._require_up(engines)
            if not force:
                credentials.require_unused(engines)
            for engine in engines:
                former = engine.details_as(state.RotatingDetails).former
                if former is None:
                    self._progress(f"{engine.name}: has no former user")
                elif dry_run:
                    self._progress(f"{engine.name}: would lose {former.username}")
                else:
                    credentials.retire(engine, self._save)
                    self._progress(f"{engine.name}: {former.username} is retired")

    def drain(self, name: str) -> bool:
        """End one engine in order; `up` with `repair` starts it again.

        :param name: the engine's name in the state
        :returns: False if it was down
        :raises EngineError: there is no such engine
        """
        with self._locked():
            engine = self._engine(state_directory.load(self._directory), name)
            if self.health(engine) == DOWN:
                return False
            self._supervisor.stop([engine])
            return True

    def reports(self) -> list[Report] | None:
        """Look at every engine; None if nothing is up here.

        :raises StateError: if the state cannot be read
        """
        found = state_directory.load(self._directory)
        return None if found is None else list(map(self._report, found.engines))

    def health(self, engine: state.Engine) -> str:
        """Whether an engine's process runs and answers: UP, SILENT or DOWN."""
        return self._supervisor.health(engine)

    def _report(self, engine: state.Engine) -> Report:
        now = self.health(engine)
        if now != UP:
            return Report(engine, now)
        try:
            return Report(engine, now, kinds.get(engine.kind).traffic(engine))
        except EngineError as error:
            return Report(engine, SILENT, problem=str(error))

    def _start(
        self,
        wanted: Wanted,
        targets: Sequence[Placement],
        previous: state.State | None,
    ) -> state.State:
        """Start engines, beside those of `previous` that are not among them."""
        former = {item.name: item for item in previous.engines} if previous else {}
        planned: dict[str, state.Engine] = {}

        def save() -> state.State:
            # before each next step, so that `down` finds whatever runs
            current = _state(wanted, {**former, **planned})
            state_directory.save(self._directory, current)
            return current

        try:
            options = self._with_certificates(wanted.options, previous)
            self._supervisor.stop(
                former[item.name] for item in targets if item.name in former
            )
            with ports.Ports() as free:
                launches = self._prepare_all(targets, free, former, options)
            for item in targets:
                planned[item.name] = self._record(item, launches[item.name], options)
            current = save()
            started = {}
            for name, launch in launches.items():
                started[name] = self._supervisor.launch(planned[name], launch)
                planned[name] = replace(
                    planned[name],
                    pid=started[name].pid,
                    started=started[name].create_time(),
                )
                current = save()
            self._supervisor.await_ready(planned.values(), started)
        except BaseException:
            self._supervisor.stop(planned.values(), timeout=_DOWN_TIMEOUT)
            if previous is None:
                self._supervisor.remove([item.name for item in targets] + [_TLS])
                state_directory.forget(self._directory)
            else:
                state_directory.save(self._directory, previous)
            raise
        if previous is not None and previous.urls != current.urls:
            self._progress(
                "an address has changed: run `hybrid-messaging configure` for your"
                " services again"
            )
        return current

    def _prepare_all(
        self,
        targets: Sequence[Placement],
        free: ports.Ports,
        former: Mapping[str, state.Engine],
        options: Options,
    ) -> dict[str, Launch]:
        launches: dict[str, Launch] = {}
        # where other routers link to each
        links = {
            item.name: details.link_port
            for item in former.values()
            if isinstance(details := item.details, state.RouterDetails)
        }
        links |= {item.name: None for item in targets if item.kind == "router"}
        for item in targets:
            chosen = options
            if item.name in links and len(links) > 1:
                # of each two, the latter makes the link
                before = {
                    name: port
                    for name, port in sorted(links.items())
                    if name < item.name and port is not None
                }
                chosen = replace(options, links=before)
            launch = launches[item.name] = kinds.get(item.kind).prepare(
                item.name,
                self._supervisor.make_directory(item.name),
                free.take,
                former.get(item.name),
                chosen,
            )
            if isinstance(launch.details, state.RouterDetails):
                links[item.name] = launch.details.link_port
        return launches

    def _record(
        self, item: Placement, launch: Launch, options: Options
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
            log=str(self._directory / item.name / f"{item.kind}.log"),
            details=launch.details,
            ca_file=options.ca_file,
        )

    def _with_certificates(
        self, options: Options, previous: state.State | None
    ) -> Options:
        """Decide whether engines get TLS, and have certificates for it."""
        had_tls = previous is not None and previous.has_tls
        if not (had_tls if options.tls is None else options.tls):
            return options
        state_directory.refuse_foreign_inside(self._directory / _TLS)
        made = certificates.ensure(self._directory / _TLS, [options.host])
        return replace(options, certificates=made)

    def _engine(self, found: state.State | None, name: str) -> state.Engine:
        engine = found.engine(name) if found else None
        if engine is None:
            raise EngineError(f"{self._directory} has no engine {name}")
        return engine

    def _rotating(
        self, found: state.State | None, names: Sequence[str]
    ) -> list[state.Engine]:
        """Engines that can have two users."""
        known = {item.name: item for item in found.engines} if found else {}
        if unknown := [name for name in names if name not in known]:
            raise EngineError(
                f"{self._directory} has no engine {', '.join(unknown)}; it has "
                f"{', '.join(known) or 'none'}"
            )
        wanted = [known[name] for name in names or known]
        unfit = {
            item.name: why for item in wanted if (why := credentials.objection(item))
        }
        if unfit and (names or len(unfit) == len(wanted)):
            reasons = "; ".join(f"{name}: {why}" for name, why in unfit.items())
            raise EngineError(f"no credentials to rotate: {reasons}")
        if not wanted:
            raise EngineError(
                f"nothing is up in {self._directory}, and only engines that `up` runs "
                "have credentials to rotate. With an engine of `engine prepare` or a "
                "cluster of `cluster render`, add the second user with the program of "
                'its server: see "Change passwords without an outage" in the '
                "documentation"
            )
        return [item for item in wanted if item.name not in unfit]

    def _require_up(self, engines: Iterable[state.Engine]) -> None:
        for engine in engines:
            if (now := self.health(engine)) != UP:
                raise EngineError(
                    f"{engine.name} is {now}: run `hybrid-messaging up --repair`, and "
                    "try again"
                )

    def _save(self, engine: state.Engine) -> None:
        """Write down what has become of an engine."""
        found = state_directory.load(self._directory)
        assert found is not None
        state_directory.save(self._directory, found.replace(engine))

    def _half_dead(self, previous: state.State, found: Mapping[str, str]) -> str:
        parts = ", ".join(
            f"{item.name} (pid {item.pid}) is {found[item.name]}"
            for item in previous.engines
        )
        logs = " ".join(item.log for item in previous.engines if found[item.name] != UP)
        return (
            f"only a part of {previous.mode} runs in {self._directory}: {parts};"
            " `hybrid-messaging up --repair` restarts the rest, `hybrid-messaging"
            f" down` stops everything{f'; see {logs}' if logs else ''}"
        )

    def _tell_age(self) -> None:
        directory = self._directory / _TLS
        if certificates.ends_soon(directory):
            self._progress(
                "the certificate of the engines expires on"
                f" {certificates.ends(directory)}: to renew it, run `hybrid-messaging"
                " down --keep-data`, then `up`"
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        def waiting() -> None:
            self._progress(f"waiting for another command that uses {self._directory} …")

        with state_directory.lock(self._directory, _LOCK_TIMEOUT, waiting):
            yield


def _state(wanted: Wanted, by_name: Mapping[str, state.Engine]) -> state.State:
    return state.State.of(wanted.mode.name, by_name.values(), wanted.given)
