# SPDX-License-Identifier: Apache-2.0
"""qpid-proton's C functions, called without giving the interpreter away.

python-qpid-proton calls the same functions through cffi, which releases the
interpreter lock around each of them, though most take well under a
microsecond. In a process with other busy threads that costs up to a switch
interval (5 ms) per function, tens of which make a message. Called through
ctypes with the lock held, a function costs 0.2 µs however busy the rest is.

Objects are addresses (int) here; `address()` leads from
python-qpid-proton's objects to them, and `wrap_…()` back.
"""

from __future__ import annotations

import atexit
import ctypes
import types
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import cproton
import proton
from cproton_ffi import ffi
from cproton_ffi import lib as _cffi

# At exit, python-qpid-proton frees what C objects refer to. A thread that still
# serves a connection then aborts the process. The process ends all the same.
atexit.unregister(cproton.clear_retained_objects)


class Tag(ctypes.Structure):
    """pn_delivery_tag_t"""

    size: int
    start: int
    _fields_ = [("size", ctypes.c_size_t), ("start", ctypes.c_void_p)]


#: what is called; cffi knows what each takes and returns
_FUNCTIONS = (
    "pn_transport_push",
    "pn_transport_pending",
    "pn_transport_peek",
    "pn_transport_pop",
    "pn_transport_close_tail",
    "pn_transport_close_head",
    "pn_transport_closed",
    "pn_transport_tick",
    "pn_collector_peek",
    "pn_collector_pop",
    "pn_event_type",
    "pn_event_session",
    "pn_event_link",
    "pn_event_delivery",
    "pn_session_head",
    "pn_session_next",
    "pn_session_outgoing_bytes",
    "pn_link_credit",
    "pn_link_unsettled",
    "pn_link_queued",
    "pn_link_current",
    "pn_link_advance",
    "pn_link_send",
    "pn_link_recv",
    "pn_link_flow",
    "pn_link_drain",
    "pn_link_drained",
    "pn_link_get_drain",
    "pn_delivery",
    "pn_delivery_link",
    "pn_delivery_readable",
    "pn_delivery_updated",
    "pn_delivery_aborted",
    "pn_delivery_partial",
    "pn_delivery_pending",
    "pn_delivery_settled",
    "pn_delivery_remote_state",
    "pn_delivery_local",
    "pn_delivery_remote",
    "pn_delivery_update",
    "pn_delivery_settle",
    "pn_delivery_abort",
    "pn_disposition_is_failed",
    "pn_disposition_is_undeliverable",
    "pn_disposition_set_failed",
    "pn_disposition_set_undeliverable",
    "pn_disposition_condition",
    "pn_link_remote_max_message_size",
    "pn_link_session",
)
_INTEGERS = {
    (ctypes.sizeof(kind), kind(-1).value < 0): kind
    for bits in (8, 16, 32, 64)
    for kind in (getattr(ctypes, f"c_int{bits}"), getattr(ctypes, f"c_uint{bits}"))
}


def _ctype(kind: Any) -> Any:
    """The ctypes equivalent of a cffi type.

    :raises ImportError: there is none
    """
    if kind.kind == "void":
        return None
    if kind.kind == "pointer":
        return ctypes.c_void_p  # takes bytes as well as addresses
    if kind.cname in ("_Bool", "bool"):
        return ctypes.c_bool
    if kind.kind == "enum" or (
        kind.kind == "primitive" and kind.cname not in ("float", "double")
    ):
        return _INTEGERS[ffi.sizeof(kind), int(ffi.cast(kind, -1)) < 0]
    if kind.kind == "struct" and _layout(kind) == _TAG:
        return Tag
    raise _unsuitable(f"passes {kind.cname} by value, which is not supported here")


def _layout(structure: Any) -> list[tuple[str, int, int]]:
    """The names, offsets and sizes of a structure's fields."""
    return [
        (name, field.offset, ffi.sizeof(field.type)) for name, field in structure.fields
    ]


_TAG = [
    (field, getattr(Tag, field).offset, getattr(Tag, field).size)
    for field in ("size", "start")
]


def _unsuitable(what: str) -> ImportError:
    return ImportError(
        f"python-qpid-proton {metadata.version('python-qpid-proton')} {what}: install"
        " an older release of it, or a newer hybrid-messaging"
    )


def address(thing: Any) -> int:
    """Where a C object lies."""
    return int(ffi.cast("uintptr_t", thing))


def _functions(names: Iterable[str]) -> dict[str, Any]:
    missing = [name for name in names if not hasattr(_cffi, name)]
    if missing:
        raise _unsuitable(f"lacks {', '.join(missing)}")
    made = {}
    for name in names:
        pointer = ffi.addressof(_cffi, name)
        kind = ffi.typeof(pointer)
        prototype = ctypes.PYFUNCTYPE(_ctype(kind.result), *map(_ctype, kind.args))
        made[name] = prototype(address(pointer))
    return made


#: the functions above, and qpid-proton's constants, under their own names; a module,
#: since the interpreter looks into modules faster than into any other object
lib: Any = types.ModuleType("qpid-proton")
lib.__dict__.update(
    {
        name: value
        for name in dir(_cffi)
        if isinstance(value := getattr(_cffi, name), int)
    },
    **_functions(_FUNCTIONS),
)


def push_unlocked(transport: int, start: bytes | int, size: int) -> int:
    """pn_transport_push(), with the interpreter given away while it runs.

    Authentication happens in there, which may wait for other servers: Kerberos,
    saslauthd, a directory.
    """
    if isinstance(start, int):
        start = ffi.cast("char *", start)
    return int(
        _cffi.pn_transport_push(ffi.cast("pn_transport_t *", transport), start, size)
    )


def start_of(data: bytes) -> int:
    """Where bytes lie, as long as the caller keeps them."""
    return address(ffi.from_buffer(data))


def wrap_link(raw: int) -> proton.Link:
    return proton.Link.wrap(ffi.cast("pn_link_t *", raw))


def wrap_session(raw: int) -> proton.Session:
    return proton.Session.wrap(ffi.cast("pn_session_t *", raw))


def wrap_condition(raw: int) -> Any:
    """A condition as python-qpid-proton's own functions take it."""
    return ffi.cast("pn_condition_t *", raw)


def read_condition(condition: Any) -> tuple[str | None, str | None]:
    """A condition's name and description, of any bytes that a peer has put there."""
    texts = (
        _cffi.pn_condition_get_name(condition),
        _cffi.pn_condition_get_description(condition),
    )
    name, description = (
        ffi.string(text).decode(errors="replace") if text else None for text in texts
    )
    return name, description
