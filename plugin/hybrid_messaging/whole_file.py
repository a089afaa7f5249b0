# SPDX-License-Identifier: Apache-2.0
"""Write files whole or not at all.

`hybrid_messaging.service_configs.replace` does more than that: it replaces several
files of others, with all that belongs to them, or none.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

#: What the file that is being written is called until it is whole: a dot, its name,
#: this, and something by chance.
UNFINISHED = ".new-"


def write(
    path: Path, data: bytes | str, mode: int | None = 0o600, *, over: bool = True
) -> None:
    """Write a file, which is on disk with all that it has before it gets its name.

    :param data: text is written as UTF-8
    :param mode: its permissions; None: those that a new file has by the umask
    :param over: take the place of a file of that name; otherwise that one stays
    :raises OSError: it cannot be written; what was there before stays
    """
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}{UNFINISHED}", dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, _by_umask() if mode is None else mode)
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(handle)
        if over:
            Path(temporary).replace(path)
            return
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        Path(temporary).unlink()
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _by_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
