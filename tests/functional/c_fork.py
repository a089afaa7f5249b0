# SPDX-License-Identifier: Apache-2.0
"""Fork without Python's knowledge, as uWSGI does."""

from __future__ import annotations

import ctypes
import os
import select
import signal

#: Seconds that a child has to show that it lives.
FIRST_SIGN = 10.0
ATTEMPTS = 10

_LIBC = ctypes.PyDLL(None)


def fork() -> int:
    """Fork, and return what `fork()` does in C.

    If another thread asks for the interpreter's lock while the system forks, the child
    waits for ever for this thread to take it: CPython's fault, and not what is tested.
    Such a child is replaced.

    :raises TimeoutError: none of the children has come to life
    """
    for _ in range(ATTEMPTS):
        sign, give_sign = os.pipe()
        child: int = _LIBC.fork()
        if child == 0:
            os.write(give_sign, b"!")
            os.close(give_sign)
            os.close(sign)
            return child
        os.close(give_sign)
        lives, _, _ = select.select([sign], [], [], FIRST_SIGN)
        os.close(sign)
        if lives:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    raise TimeoutError(f"{ATTEMPTS} children are stuck in the interpreter")
