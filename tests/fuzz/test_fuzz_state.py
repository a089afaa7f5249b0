# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a state file: one sentence, and nobody else is touched."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_messaging import state, state_directory
from hybrid_messaging.engines.deployment import Deployment

ROUTER = state.Engine(
    name="router",
    kind="router",
    roles=("rpc",),
    host="127.0.0.1",
    port=1,
    url="amqp://127.0.0.1:1/",
    pid=state.NOT_STARTED,
    started=1.5,
    log="/somewhere/router.log",
    details=state.RouterDetails(router="embedded", id="x"),
)
RABBITMQ = dataclasses.replace(
    ROUTER,
    name="rabbitmq",
    kind="rabbitmq",
    roles=("notify",),
    url="rabbit://u:p@127.0.0.1:2/",
    details=state.RabbitMQDetails(
        management_port=3,
        distribution_port=4,
        epmd_port=5,
        username="u",
        password="p",
        cookie="c",
        node="n@localhost",
    ),
)
SOUND: dict[str, Any] = json.loads(
    json.dumps(
        {
            "format": 1,
            **dataclasses.asdict(
                state.State("qpid-hybrid", ROUTER.url, RABBITMQ.url, (ROUTER, RABBITMQ))
            ),
        }
    )
)


@dataclasses.dataclass
class Neighbourhood:
    """A state directory, and beside it what belongs to somebody else."""

    state_dir: Path
    precious: Path
    process: subprocess.Popen[bytes]

    def is_whole(self) -> bool:
        return self.process.poll() is None and (self.precious / "file").exists()


@pytest.fixture(scope="module")
def neighbourhood(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    root = tmp_path_factory.mktemp("state")
    precious = root / "precious"
    precious.mkdir()
    (precious / "file").touch()
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(86400)"],
        cwd=precious,
        start_new_session=True,
    ) as process:
        try:
            yield Neighbourhood(root / "state", precious, process)
        finally:
            process.kill()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value within another one."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


NASTY = st.sampled_from(
    [
        *(
            "../precious",
            "..",
            ".",
            "",
            "/",
            "/etc",
            "a/b",
            "precious",
            "../precious/.",
        ),
        *("os", "ports", "router\n", "rou\x1b[31mter", "\ud800", "-x", "r" * 9999),
        *("$HOME", "~", "router/../../precious", "tls", "lock", "state.json"),
        *(-1, 0, 1, 2**22, 2**31, 2**63, 2**70, 1e300, True, False, None, [], {}),
    ]
)
VALUE = NASTY | st.recursive(
    NASTY | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A state file in which some values are others, are gone, or are new."""
    document: Any = copy.deepcopy(SOUND)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(document))))
        if not path:
            document = draw(VALUE | st.just(document))
            continue
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.booleans()):
            holder[path[-1]] = draw(VALUE)
        elif draw(st.booleans()):
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[draw(st.text() | st.just("__class__"))] = draw(VALUE)
    return json.dumps(document)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """The bytes of a state file, cut off, with some others in between."""
    data = json.dumps(SOUND).encode()
    begin, end = sorted(
        draw(st.lists(st.integers(0, len(data)), min_size=2, max_size=2))
    )
    return data[:begin] + draw(st.binary()) + data[end:]


DEEP = st.builds(
    lambda text, times: text * times, st.sampled_from('[{("0-'), st.just(200_000)
)


@given(content=changed().map(str.encode) | torn() | st.binary() | DEEP.map(str.encode))
def test_a_state_file_is_understood_or_damaged(
    neighbourhood: Neighbourhood, content: bytes
) -> None:
    state_dir = neighbourhood.state_dir
    shutil.rmtree(state_dir, ignore_errors=True)
    state_dir.mkdir(mode=0o700)
    (state_dir / state_directory.STATE_FILE).write_bytes(content)
    try:
        found = state_directory.load(state_dir)
    except state_directory.StateError as error:
        assert str(state_dir / state_directory.STATE_FILE) in str(error)
        assert str(error).isprintable()
        with pytest.raises(state_directory.StateError):
            Deployment(state_dir, str).down()
    else:
        assert found is not None
        for engine in found.engines:
            assert (state_dir / engine.name).parent == state_dir
            assert engine.name not in state_directory.FILES
        # whatever it says about pids, none of these engines has been started
        assert Deployment(state_dir, str).down()
        assert not state_dir.exists()
    assert neighbourhood.is_whole()
