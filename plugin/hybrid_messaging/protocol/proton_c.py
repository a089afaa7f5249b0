# SPDX-License-Identifier: Apache-2.0
"""qpid-proton's C functions, called without giving the interpreter away.

python-qpid-proton calls the same functions through cffi, which releases the
interpreter lock around each of them, though most take well under a
microsecond. In a process with other busy threads that costs up to a switch
interval (5 ms) per function, tens of which make a message. Called through
ctypes with the lock held, a function costs 0.2 µs however busy the rest is.

Objects are addresses (int) here; `address()` and `wrap()` lead from
python-qpid-proton's objects to them and back.
"""

from __future__ import annotations

import ctypes
import types
from typing import Any

import proton
from cproton_ffi import ffi
from cproton_ffi import lib as _cffi

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t
_SSIZE = ctypes.c_ssize_t
_BYTES = ctypes.c_char_p
_INT = ctypes.c_int
_BOOL = ctypes.c_bool
_TIME = ctypes.c_int64
_NOTHING = None


class Tag(ctypes.Structure):
    """pn_delivery_tag_t"""

    _fields_ = [("size", _SIZE), ("start", _BYTES)]


#: name: (what it returns, what it takes); source: proton/*.h
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pn_transport_push": (_SSIZE, (_POINTER, _POINTER, _SIZE)),
    "pn_transport_pending": (_SSIZE, (_POINTER,)),
    "pn_transport_peek": (_SSIZE, (_POINTER, _POINTER, _SIZE)),
    "pn_transport_pop": (_NOTHING, (_POINTER, _SIZE)),
    "pn_transport_close_tail": (_INT, (_POINTER,)),
    "pn_transport_close_head": (_INT, (_POINTER,)),
    "pn_transport_closed": (_BOOL, (_POINTER,)),
    "pn_transport_tick": (_TIME, (_POINTER, _TIME)),
    "pn_collector_peek": (_POINTER, (_POINTER,)),
    "pn_collector_pop": (_BOOL, (_POINTER,)),
    "pn_event_type": (_INT, (_POINTER,)),
    "pn_event_session": (_POINTER, (_POINTER,)),
    "pn_event_link": (_POINTER, (_POINTER,)),
    "pn_event_delivery": (_POINTER, (_POINTER,)),
    "pn_session_head": (_POINTER, (_POINTER, _INT)),
    "pn_session_next": (_POINTER, (_POINTER, _INT)),
    "pn_session_outgoing_bytes": (_SIZE, (_POINTER,)),
    "pn_link_open": (_NOTHING, (_POINTER,)),
    "pn_link_credit": (_INT, (_POINTER,)),
    "pn_link_unsettled": (_INT, (_POINTER,)),
    "pn_link_queued": (_INT, (_POINTER,)),
    "pn_link_current": (_POINTER, (_POINTER,)),
    "pn_link_advance": (_BOOL, (_POINTER,)),
    "pn_link_send": (_SSIZE, (_POINTER, _BYTES, _SIZE)),
    "pn_link_recv": (_SSIZE, (_POINTER, _POINTER, _SIZE)),
    "pn_link_flow": (_NOTHING, (_POINTER, _INT)),
    "pn_link_drain": (_NOTHING, (_POINTER, _INT)),
    "pn_link_drained": (_INT, (_POINTER,)),
    "pn_link_get_drain": (_BOOL, (_POINTER,)),
    "pn_delivery": (_POINTER, (_POINTER, Tag)),
    "pn_delivery_link": (_POINTER, (_POINTER,)),
    "pn_delivery_readable": (_BOOL, (_POINTER,)),
    "pn_delivery_updated": (_BOOL, (_POINTER,)),
    "pn_delivery_aborted": (_BOOL, (_POINTER,)),
    "pn_delivery_partial": (_BOOL, (_POINTER,)),
    "pn_delivery_pending": (_SIZE, (_POINTER,)),
    "pn_delivery_settled": (_BOOL, (_POINTER,)),
    "pn_delivery_remote_state": (ctypes.c_uint64, (_POINTER,)),
    "pn_delivery_local": (_POINTER, (_POINTER,)),
    "pn_delivery_remote": (_POINTER, (_POINTER,)),
    "pn_delivery_update": (_NOTHING, (_POINTER, ctypes.c_uint64)),
    "pn_delivery_settle": (_NOTHING, (_POINTER,)),
    "pn_delivery_abort": (_NOTHING, (_POINTER,)),
    "pn_disposition_is_failed": (_BOOL, (_POINTER,)),
    "pn_disposition_is_undeliverable": (_BOOL, (_POINTER,)),
    "pn_disposition_set_failed": (_NOTHING, (_POINTER, _BOOL)),
    "pn_disposition_set_undeliverable": (_NOTHING, (_POINTER, _BOOL)),
    "pn_disposition_condition": (_POINTER, (_POINTER,)),
}


def address(thing: Any) -> int:
    """Where a C object, or a buffer that the caller keeps, lies."""
    return int(ffi.cast("uintptr_t", thing))


def _function(name: str, returns: Any, takes: tuple[Any, ...]) -> Any:
    pointer = address(ffi.addressof(_cffi, name))
    return ctypes.PYFUNCTYPE(returns, *takes)(pointer)


#: the functions above, and qpid-proton's constants, under their own names
lib: Any = types.SimpleNamespace(
    **{
        name: value
        for name in dir(_cffi)
        if isinstance(value := getattr(_cffi, name), int)
    },
    **{name: _function(name, *signature) for name, signature in _SIGNATURES.items()},
)


def buffer(data: bytes | bytearray | memoryview) -> Any:
    """The bytes as a C buffer, for `address()`; keeps them where they are."""
    return ffi.from_buffer(data)


def wrap_link(raw: int) -> proton.Link:
    return proton.Link.wrap(ffi.cast("pn_link_t *", raw))


def wrap_session(raw: int) -> proton.Session:
    return proton.Session.wrap(ffi.cast("pn_session_t *", raw))


def wrap_condition(raw: int) -> Any:
    """A condition as python-qpid-proton's own functions take it."""
    return ffi.cast("pn_condition_t *", raw)


def read_condition(condition: Any) -> tuple[str | None, str | None]:
    """A condition's name and description, whatever bytes a peer has put there."""
    texts = (
        _cffi.pn_condition_get_name(condition),
        _cffi.pn_condition_get_description(condition),
    )
    name, description = (
        ffi.string(text).decode(errors="replace") if text else None for text in texts
    )
    return name, description
