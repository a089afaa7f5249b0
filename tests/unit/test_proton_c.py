# SPDX-License-Identifier: Apache-2.0
"""The bindings to qpid-proton: what does not fit is found when they are made."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import proton
import pytest
from cproton_ffi import ffi
from cproton_ffi import lib as cffi_lib

from hybrid_messaging.protocol import proton_c
from hybrid_messaging.protocol.endpoint import Endpoint, Handler


@pytest.mark.parametrize("name", proton_c._FUNCTIONS)
def test_functions_take_and_return_what_the_headers_say(name: str) -> None:
    function = getattr(proton_c.lib, name)
    header = ffi.typeof(ffi.addressof(cffi_lib, name))
    sizes = [ctypes.sizeof(kind) for kind in function.argtypes]
    assert sizes == [ffi.sizeof(kind) for kind in header.args]
    if header.result.kind == "void":
        assert function.restype is None
    else:
        assert ctypes.sizeof(function.restype) == ffi.sizeof(header.result)


def test_signs_are_kept() -> None:
    connection = proton.Connection()
    receiver = connection.session().receiver("name")
    raw = proton_c.address(receiver._impl)
    proton_c.lib.pn_link_flow(raw, -5)
    assert proton_c.lib.pn_link_credit(raw) == -5


def test_a_function_that_is_gone_is_named_with_the_version() -> None:
    with pytest.raises(ImportError, match=r"python-qpid-proton \d.* lacks pn_gone"):
        proton_c._functions(["pn_link_credit", "pn_gone"])


def test_a_structure_that_has_changed_is_named() -> None:
    with pytest.raises(ImportError, match="by value"):
        proton_c._ctype(ffi.typeof("pn_msgid_t"))
    with pytest.raises(ImportError, match="double"):
        proton_c._ctype(ffi.typeof("double"))


class _Silent(Handler):
    """Takes no notice."""


@pytest.mark.parametrize("opened", [False, True])
def test_the_interpreter_is_given_away_while_a_peer_authenticates(
    opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    def spy(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            used.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(
        proton_c, "push_unlocked", spy("unlocked", proton_c.push_unlocked)
    )
    monkeypatch.setattr(
        proton_c.lib, "pn_transport_push", spy("locked", proton_c.lib.pn_transport_push)
    )
    client, server = (
        Endpoint(_Silent(), "client"),  # type: ignore[abstract]
        Endpoint(_Silent(), "server", server=True),  # type: ignore[abstract]
    )
    client.open()
    if opened:
        data = bytes(client.output())
        client.written(len(data))
        server.receive(data)
        assert server.opened
        client.sender("address")
    data = bytes(client.output())
    client.written(len(data))
    used.clear()
    server.receive(data)
    assert set(used) == {"locked" if opened else "unlocked"}


def test_what_connections_refer_to_outlives_the_end_of_the_process() -> None:
    """Their threads go on until the very end."""
    code = """
import atexit
atexit.register(lambda: print(marker in cproton.retained_objects))
import cproton
from hybrid_messaging.protocol import proton_c
marker = object()
cproton.retained_objects.add(marker)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "True\n", done.stderr
